"""Contact data in utterances: telephone numbers, e-mail addresses, handles, numbers of papers and cards (filter 5).

Patterns of Arrow's RE2 run over a whole column; only the few texts they give are looked at one by one, to confirm a
telephone number, a check digit, a date. Names of persons, institutions and addresses: `pege.corpus.entities`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from pege.errors import InputError
from pege.words import guess_language

if TYPE_CHECKING:
    import pyarrow as pa

    Rule = Callable[[pa.StringArray], pa.BooleanArray]

_FULL_WIDTH = r"[０-９Ａ-Ｚａ-ｚ＠．：＋－＿＃]"


def has_phone(texts: pa.StringArray) -> pa.BooleanArray:
    """Whether each text holds a telephone number, as one of China, the US, Britain, India or Australia writes it.

    A number counts where the plan of its country knows it, or where its length is possible and the text speaks of a
    telephone or the number starts with "+". A year, a price, a score, a time or a date is none.

    Args:
        texts: (N,) utterances; a null is no hit.

    Returns:
        (N,) booleans without nulls.

    Raises:
        InputError: the package ``phonenumbers`` is missing.
    """
    return _confirmed(_plain(texts), r"\d(?:[ .()/\-–]{0,3}\d){6}|[零〇一二三四五六七八九幺]{11}", _is_phone)


def has_email(texts: pa.StringArray) -> pa.BooleanArray:
    """Whether each text holds an e-mail address, also a spelt one ("ann at example dot com").

    Args:
        texts: (N,) utterances; a null is no hit.

    Returns:
        (N,) booleans without nulls.
    """
    return _matches(_plain(texts), f"(?i){_EMAIL}")


def has_handle(texts: pa.StringArray) -> pa.BooleanArray:
    """Whether each text holds a name on a network: ``@name``, WeChat, QQ, Instagram, Discord and the like.

    A network without a name ("I deleted my insta", 我把QQ卸载了) is no hit.

    Args:
        texts: (N,) utterances; a null is no hit.

    Returns:
        (N,) booleans without nulls.
    """
    import pyarrow.compute as pc

    plain = _plain(texts)
    named = _matches(plain, f"{_HANDLE_EN}|{_HANDLE_ZH}")
    return pc.or_(named, _confirmed(plain, "@", _has_mention))


def has_id_number(texts: pa.StringArray) -> pa.BooleanArray:
    """Whether each text holds a number that points at one person.

    Chinese identity card (check digit) and number plate, bank card (Luhn), US social security number, passport
    (where the text says so), public IP address.

    Args:
        texts: (N,) utterances; a null is no hit.

    Returns:
        (N,) booleans without nulls.
    """
    return _confirmed(_plain(texts), rf"\d{{6}}|\d{{3,4}}[ \-]\d{{2,4}}[ \-]\d{{4}}|(?i:{_IP})|{_PLATE}", _is_id_number)


#: reason code -> rule; the order is that of the run, cheap first
CONTACT_RULES: dict[str, Rule] = {
    "email": has_email,
    "handle": has_handle,
    "id-number": has_id_number,
    "phone": has_phone,
}


# ---- columns


def _plain(texts: pa.StringArray) -> pa.StringArray:
    """Full-width letters, digits and signs as plain ones, in the texts that have any: each is judged by itself."""
    import pyarrow.compute as pc

    is_wide = _matches(texts, _FULL_WIDTH)
    return pc.if_else(is_wide, pc.utf8_normalize(texts, "NFKC"), texts) if pc.any(is_wide).as_py() else texts


def _matches(texts: pa.StringArray, pattern: str) -> pa.BooleanArray:
    import pyarrow.compute as pc

    return pc.fill_null(pc.match_substring_regex(texts, pattern), False)


def _confirmed(texts: pa.StringArray, pattern: str, confirm: Callable[[str], bool]) -> pa.BooleanArray:
    """The texts that a pattern finds and a function confirms, text by text."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    hits = _matches(texts, pattern).to_numpy(zero_copy_only=False).copy()  # (N,)
    places = np.flatnonzero(hits)
    if places.size:
        hits[places] = [confirm(t) for t in pc.take(texts, pa.array(places)).to_pylist()]
    return pa.array(hits, pa.bool_())


# ---- telephone numbers

_PHONE = re.compile(r"(?<![\w.])(?<![$£€¥￥])\(?\+?\(?\d(?:[ .()/\-–]{0,3}\d){6,16}(?![\d%])", re.ASCII)
_PHONE_WORD = re.compile(
    r"\b(?:call|phone|text(?!book)|tel|cell|mobile|whatsapp|reach me|ring|dial|my number|landline|sms)\b"
    r"|电话|手机|座机|号码|打给|联系|短信|致电",
    re.IGNORECASE,
)
_DATE = re.compile(r"(?:19|20)\d\d *[-./–] *\d{1,2} *[-./–] *\d{1,2}|\d{1,2}[-./]\d{1,2}[-./](?:19|20)?\d\d(?!\d)")
_YEARS = re.compile(r"(?:(?:19|20)\d\d\D{1,3}){1,3}(?:19|20)\d\d")
_AMOUNT = re.compile(r"\s*(?:元|块|人|个|次|分|points|dollars|bucks|people|times|rmb|usd)", re.IGNORECASE)
_SPELT = str.maketrans("零〇一二三四五六七八九幺", "001234567891")
_SPELT_PHONE = re.compile(r"[一幺1][零〇一二三四五六七八九幺]{10}")
_US_WRITTEN = re.compile(r"\(\d{3}\) ?\d{3}[- ]\d{4}|\d{3}-\d{3}-\d{4}")  # told by its signs in any language
#: language -> region and the shape its numbers have within it (ten digits anywhere are not yet a number)
_REGIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "zh": (("CN", r"1[3-9]\d{9}|0\d{9,11}"),),
    "en": (
        ("US", r"1?[2-9]\d{2}[2-9]\d{6}"),
        ("GB", r"0\d{9,10}"),
        ("CN", r"1[3-9]\d{9}|0\d{9,11}"),
        ("IN", r"0?[6-9]\d{9}"),
        ("AU", r"0[23478]\d{8}"),
    ),
}


def _is_phone(text: str) -> bool:
    spelt = [m.group().translate(_SPELT) for m in _SPELT_PHONE.finditer(text)]
    if any(_is_assigned(digits, "zh") for digits in spelt):
        return True
    lang = guess_language(text)
    speaks_of_it = _PHONE_WORD.search(text) is not None
    for found in _PHONE.finditer(_YEARS.sub(" ", _DATE.sub(" ", text))):
        number = found.group()
        if "+" not in number and _AMOUNT.match(found.string, found.end()):
            continue
        if _is_assigned(number, lang) or ((speaks_of_it or "+" in number) and _is_possible(number, lang)):
            return True
    return False


def _is_assigned(number: str, lang: str) -> bool:
    numbers = _phonenumbers()
    digits = re.sub(r"\D", "", number)
    regions: list[str | None] = [None]
    if "+" not in number:
        regions = [r for r, shape in _REGIONS[lang] if re.fullmatch(shape, digits)]
    if _US_WRITTEN.fullmatch(number) and "US" not in regions:
        regions.append("US")
    return any(numbers.is_valid_number(p) for p in _parsed(number, regions))


def _is_possible(number: str, lang: str) -> bool:
    numbers = _phonenumbers()
    regions = [None] if "+" in number else [r for r, _ in _REGIONS[lang]]
    return any(numbers.is_possible_number(p) for p in _parsed(number, regions))


def _parsed(number: str, regions: Sequence[str | None]) -> list[object]:
    numbers = _phonenumbers()
    found = []
    for region in regions:
        try:
            found.append(numbers.parse(number, region))
        except numbers.NumberParseException:
            continue
    return found


def _phonenumbers() -> ModuleType:
    try:
        import phonenumbers
    except ImportError as e:
        raise InputError("telephone numbers need the package phonenumbers", fix="pip install 'pege[corpus]'") from e
    return phonenumbers


# ---- e-mail addresses

_TLD = r"(?:com|net|org|edu|gov|info|io|me|co|cn|uk|de|fr|ru|in|jp|kr|ca|au|us|tw|hk)\b"
_EMAIL = (
    r"[a-z0-9][a-z0-9._%+\-]*@[a-z0-9\-]+(?:\.[a-z0-9\-]+)*\.[a-z]{2,}"
    rf"|[a-z0-9][a-z0-9._%+\-]* ?(?:@|\(at\)|\[at\]) ?[a-z0-9\-]+ ?(?:\.|\(dot\)|\[dot\]|点) ?{_TLD}"
    rf"|\b[a-z0-9][a-z0-9._%+\-]* at [a-z0-9\-]+(?: dot [a-z0-9\-]+)* dot {_TLD}"
)

# ---- handles

_NETWORK = (
    r"(?:insta|instagram|ig|snap|snapchat|sc|discord|disc|telegram|tg|kik|skype|tiktok|twitter|tumblr|steam|psn|xbox|"
    r"wechat|facebook|fb|youtube|twitch|reddit|whatsapp|bumble|tinder|roblox|signal)"
)
_HANDLE_NOUN = r"(?:handle|username|user name|user|nick|nickname|id|account|tag|gamertag|name)"
_IS = r"(?:\s*(?::|=|-)\s*|'?s\s+|\s+is:?\s+|\s*,?\s+it'?s\s+)"
_MARKED = r"[A-Za-z0-9]*[A-Za-z][A-Za-z0-9]*(?:[_.]+|\d)[A-Za-z0-9_.]*[A-Za-z0-9_]"  # a name with a dot, digit, _
_HANDLE_EN = (
    rf"(?i:\b{_NETWORK}(?:\s+{_HANDLE_NOUN})?{_IS}@?{_MARKED})"
    rf"|(?i:\b{_NETWORK}\s+{_HANDLE_NOUN}{_IS}@?[a-z]\w{{3,}})"
    rf"|(?i:\b{_NETWORK}\s+{_HANDLE_NOUN}\s+@?{_MARKED})"
    r"|(?:^|[^\w/])/?u/[A-Za-z0-9][A-Za-z0-9_\-]{2,}"
    r"|\b[A-Za-z0-9_.]{2,32}#\d{4}\b"
)
_NETWORK_ZH = (
    r"(?i:微 ?信|薇 ?信|威信|微❤|薇❤|v信|\bvx|\bwx|\bwechat|[加+] ?我?(?:v\b|薇|微)|\bq ?q|扣扣|企鹅|\bq号|抖音|快手|"
    r"小红书|微博|钉钉|陌陌|探探|b站|豆瓣|\b(?:ins|soul)\b)"
)
_LINK_ZH = r"(?:[:：=,，、 \-]|我的?|是|为|吧|聊|加|搜)*"
_STOP_ZH = r"(?:$|[^0-9A-Za-z块元人万千百粉赞天年月日次条多个集分岁%])"
_HANDLE_ZH = (
    rf"{_NETWORK_ZH}(?:号码?|账号|帐号|昵称|(?i:id))?{_LINK_ZH}"
    rf"(?:[A-Za-z][A-Za-z0-9]*[0-9_\-][A-Za-z0-9_\-]*|[1-9]\d{{4,11}}{_STOP_ZH})"
    rf"|{_NETWORK_ZH}(?:号码?|账号|帐号|昵称|(?i:id))(?:[:：=,， ]|我的?|是|为)*[A-Za-z][A-Za-z0-9_\-]{{4,}}"
)
_MENTION = re.compile(r"(?<![\w@.%+\-])@(?:([A-Za-z_][\w.]{2,})|([\u4e00-\u9fff]{2,12})(?=[\s:：]|$))", re.ASCII)
_NO_MENTION = re.compile(  # "@home", "@work": where, not who
    r"(?:home|work|school|night|all|every(?:one|body)|here|the|least|first|last|noon|midnight|channel|this|that|any|some"
    r"|your|his|her|their|our|which|what)\.?",
    re.IGNORECASE,
)
_NO_MENTION_ZH = ("所有人", "全体", "我", "你", "他", "她", "一下")


def _has_mention(text: str) -> bool:
    for found in _MENTION.finditer(text):
        latin, han = found.groups()
        if latin and not _NO_MENTION.fullmatch(latin):
            return True
        if han and not han.startswith(_NO_MENTION_ZH):
            return True
    return False


# ---- numbers of papers and cards

_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IP = rf"\b{_OCTET}(?:\.{_OCTET}){{3}}\b|\b(?:[0-9a-f]{{1,4}}:){{7}}[0-9a-f]{{1,4}}\b"
_PLATE = r"[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼][A-HJ-NP-Z][·•. ]?[A-HJ-NP-Z0-9]{5,6}"
_IP_EXACT = re.compile(rf"(?<![\w.])(?:{_IP})(?!\.\d)", re.IGNORECASE | re.ASCII)
_VERSION = re.compile(
    r"(?:\b(?:versions?|ver|build|release|firmware)|版本)(?:\s+is|\s*[:：])?\s*(?:on\s+)?$", re.IGNORECASE
)
_LOCAL_NETWORKS = [
    ipaddress.ip_network(n)
    for n in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "0.0.0.0/8", "255.0.0.0/8", "8.8.0.0/16")
]
_PLATE_EXACT = re.compile(rf"{_PLATE}(?![A-Za-z0-9])")
_ID_CARD = re.compile(r"(?<!\d)\d{17}[\dXx](?![\dA-Za-z])")
_CARD = re.compile(r"(?<![\d.])[2-6]\d{3}(?:[ -]?\d{4}){2}[ -]?\d{1,7}(?!\d)")
_SSN = re.compile(r"(?<![\d-])(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\d-])")
_SAID = re.compile(  # a number that the text itself calls one of a paper
    r"(?:passport|护照|驾照|驾驶证|driver'?s? licen[cs]e|身份证|社保|ssn|social security|national insurance)"
    r"[^\d]{0,16}?[A-Za-z]{0,2}\d{6,18}(?![\dA-Za-z]{2})",
    re.IGNORECASE | re.ASCII,
)
_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def _is_id_number(text: str) -> bool:
    return (
        any(_is_id_card(m.group()) for m in _ID_CARD.finditer(text))
        or any(_is_bank_card(m.group()) for m in _CARD.finditer(text))
        or _SSN.search(text) is not None
        or _SAID.search(text) is not None
        or _PLATE_EXACT.search(text) is not None
        or any(_is_public_ip(m) for m in _IP_EXACT.finditer(text))
    )


def _is_id_card(number: str) -> bool:
    """Chinese identity card (GB 11643): province, birth date, check digit modulo 11."""
    province, year, month, day = int(number[:2]), int(number[6:10]), int(number[10:12]), int(number[12:14])
    if not (11 <= province <= 91 and 1800 <= year <= 2100 and 1 <= month <= 12 and 1 <= day <= 31):
        return False
    total = sum(int(d) * w for d, w in zip(number[:17], _ID_WEIGHTS, strict=True))
    return "10X98765432"[total % 11] == number[17].upper()


def _is_bank_card(number: str) -> bool:
    """Bank card (ISO/IEC 7812): 13 to 19 digits with Luhn's check digit."""
    digits = [int(c) for c in number if c.isdigit()]
    if not 13 <= len(digits) <= 19 or len(set(digits)) == 1:
        return False
    doubled = [d * 2 - 9 * (d > 4) for d in digits[-2::-2]]
    return (sum(doubled) + sum(digits[-1::-2])) % 10 == 0


def _is_public_ip(found: re.Match[str]) -> bool:
    if _VERSION.search(found.string[: found.start()]):
        return False
    address = ipaddress.ip_address(found.group())
    return not any(address.version == n.version and address in n for n in _LOCAL_NETWORKS)
