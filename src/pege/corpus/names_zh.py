"""Rules for names of persons, institutions and addresses in Chinese chat, over words that jieba cut and tagged.

jieba's tags nr, nt and ns are the recogniser; the rules add what it cannot tag (小王, 王老师, a school or a housing
estate with a name of its own) and take back what is no name (a city, "our company", 高兴).
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import logging
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

Span = tuple[str, int, int]


class Word(NamedTuple):
    """One word of a text, with jieba's tag, from ``start`` to ``stop``."""

    text: str
    tag: str
    start: int
    stop: int


def chinese_names(text: str) -> list[Span]:
    """Find names of persons, institutions and addresses.

    Args:
        text: an utterance.

    Returns:
        Spans ``(kind, start, stop)`` of kind person, institution, address or place; they may overlap.
    """
    words = tag_words(text)
    places = [("place", w.start, w.stop) for w in words if w.tag == "ns"]
    return [*_addresses(text, words), *_institutions(words), *_persons(text, words), *places]


def tag_words(text: str) -> list[Word]:
    """Cut a text into words with jieba's tags of parts of speech."""
    found, start = [], 0
    for piece in _cutter()(text):
        found.append(Word(piece.word, piece.flag, start, start + len(piece.word)))
        start += len(piece.word)
    return found


@functools.cache
def _cutter() -> Any:
    import jieba
    import jieba.posseg

    jieba.setLogLevel(logging.WARNING)
    return jieba.posseg.lcut


@functools.cache
def _surnames() -> tuple[str, str]:
    """Single surnames as one string of characters; all as the alternatives of a pattern."""
    source = importlib.resources.files("pege") / "assets" / "corpus" / "personal.names.json"
    lists: dict[str, str] = json.loads(source.read_text(encoding="utf-8"))
    return lists["surnames"], "|".join([*lists["compound_surnames"].split(), f"[{lists['surnames']}]"])


# ---- persons

_TITLES = (
    r"(?:老师|医生|大夫|女士|先生|小姐|太太|夫人|阿姨|叔叔|伯伯|大爷|大妈|奶奶|爷爷|婶|总监|总|经理|主任|教授|同学|师傅|护士|警官|律师|校长|"
    r"老板|局长|处长|科长|主管|院长|书记|厂长|组长|队长|会计|教练|导师|咨询师|博士|工|哥|姐|姨|叔|嫂)"
)
_NOT_NAMED = re.compile(
    r"^(?:阿姨|阿姐|阿哥|阿妈|阿婆|阿公|阿妹|阿弟|阿里|阿拉|阿富|阿根|阿门|阿胶|阿Q|老师|小时|老板|小姐)"
)
_NAMED_BY = re.compile(r"(?:我叫|他叫|她叫|名叫|叫做|名字(?:叫|是)|姓名[:：是]|叫我|家叫我|本名)([\u4e00-\u9fff]{2,4})")
_STOPS = "了吗呢吧啊呀哦的地得着过是在有不很都也就还又才没别让把被给对说想要去来做干"
_COMMON = frozenset(
    "高兴 高考 高三 高二 高一 高中 明明 安静 温柔 方便 余生 常常 许多 任何 时间 明天 明白 成功 安心 曾经 何必 江湖 和谐 和平 白天 白费 马上 "
    "王子 黄色 金钱 周末 周一 周二 周三 周四 周五 周六 周日 张嘴 李子 高压 高度 高价 高手 温暖 平安 安全 安慰 安排 安稳 贺卡 花钱 花心 "
    "常年 常态 常识 严重 严肃 严格 石头 金子 万一 万事 万分 万物 于是 于心 盛大 盛开 包容 包括 包袱 单身 单纯 单独 单位 向上 向往 向来 "
    "康复 文静 文艺 文字 易怒 易碎 乐观 乐意 乐趣 乐于 费心 费劲 路人 路边 白眼 白痴 白领 白发 黑白 水水 东西 司机 元旦 宝宝 宝贝 乖乖 "
    "亲亲 抱抱 加油 和好 和气 和善 童年 童话 毛病 毛毛 谢谢 宁愿 宁可 戴上 顾虑 顾及 陶醉 史诗 雷雨 孟婆 龙虾 洪水 施舍 施加 庄严 "
    "小时候 小朋友 小伙子 小姑娘 老天爷 老人家 小区 开朗 阳光 天真 甜蜜 爱情 苦恼 夏天 夏日 秋天 冬天 春天 白雪 柳树 石榴 莫名 莫非 "
    "严厉 古怪 高大 高级 高速 高峰 高冷 高傲 高尚 高薪 高潮 高层 高原 高度 高手 阴影 小看 小心".split()
)


def _persons(text: str, words: list[Word]) -> Iterator[Span]:
    starts = {w.start for w in words}
    _, surname = _surnames()
    for word in words:
        if word.tag.startswith("nr") and _is_full_name(word.text):
            yield "person", word.start, word.stop
    yield from _split_names(words)
    for found in _titled(surname).finditer(text):
        if found.start() in starts and found.group()[:2] not in _COMMON:
            yield "person", *found.span()
    for found in _NAMED_BY.finditer(text):
        name = found[1]
        length = next((i for i, c in enumerate(name) if c in _STOPS), len(name))
        if _is_after_call(name[:length], surname):
            yield "person", found.start(1), found.start(1) + length


@functools.cache
def _titled(surname: str) -> re.Pattern[str]:
    singles = _surnames()[0]
    return re.compile(
        rf"(?:{surname})(?:[\u4e00-\u9fff]{{1,2}})?(?=老师|医生|女士|先生|阿姨|教授|经理|主任)(?<!的){_TITLES}"
        rf"|(?:{surname}){_TITLES}(?![人程作会体是共])"
        rf"|[小老大](?:[{singles}])(?![\u4e00-\u9fff]*[子板])(?=[，。！？,.!? 跟和对说也又都在是今昨请借给把被就的了]|$)"
    )


def _is_full_name(name: str) -> bool:
    """A name of two to four characters that starts with a surname, or 阿 and one more."""
    singles, surname = _surnames()
    if name in _COMMON or _NOT_NAMED.match(name):
        return False
    if len(name) == 2 and name[0] in "小老大":
        return name[1] in singles
    if len(name) == 2 and name[0] == "阿":
        return True
    return bool(re.fullmatch(rf"(?:{surname})[\u4e00-\u9fff]{{1,2}}", name)) and not re.search(f"[{_STOPS}]", name[1:])


def _split_names(words: list[Word]) -> Iterator[Span]:
    """A surname that jieba cut off its given name: 吴/nr 浩然/a, 上官/n 婉/dg 清/a."""
    singles, _ = _surnames()
    for first, second in zip(words, words[1:], strict=False):
        is_surname = first.tag.startswith("nr") and first.text in singles
        if is_surname and len(second.text) == 2 and second.tag in ("nr", "a", "nz", "n", "z", "an", "v", "ns"):
            if not re.fullmatch(_TITLES, second.text):
                yield "person", first.start, second.stop


def _is_after_call(name: str, surname: str) -> bool:
    if name in _COMMON or _NOT_NAMED.match(name):
        return False
    if re.fullmatch(r"[阿小老大][\u4e00-\u9fff]", name):
        return True
    return len(name) in (2, 3, 4) and bool(re.match(surname, name)) and name[:2] not in _COMMON


# ---- institutions

_HEADS = (
    r"(?:大学|学院|师范学院|理工大学|中学|高中|初中|小学|幼儿园|医院|诊所|卫生院|公司|有限公司|集团|银行|证券|保险|派出所|监狱|养老院|福利院|"
    r"事务所|工厂|\w{0,3}厂|传媒|科技|培训班|培训学校|职校|技校|研究所|研究院|党校|教会|教堂|寺|敬老院|孤儿院|酒店|宾馆|律所|学校|超市|"
    r"支行|分局|公安局|法院|居委会|俱乐部|工作室)"
)
_MODIFIERS = frozenset(
    "人民 中心 附属 第一 第二 第三 第四 实验 师范 理工 职业 技术 建筑 物流 科技 食品 律师 心理 康复 网络 网络科技 有限 有限公司 股份 培训 学校 "
    "纺织 外国语 外贸 互联网 保险 贸易 广告 软件 电子 房地产 装修 服装 汽车 教育 文化 投资 金融 国际 私人 私立 公立 民办 上市 国有 国营 外资 "
    "小型 大型 重点 普通 名牌 一本 二本 三本 本科 专科 精神病 精神 儿童 妇幼 中医 口腔 肿瘤 整形 宠物 三甲 当地 附近 农村 城市 县城 市里 县 "
    "市 省 区 镇 村 乡 全国 家庭 家 某 该 这家 那家 一家 一所 同一 别的 其他 老家 医科 财经 政法 农业 工业 商业 艺术 体育 音乐 美术 广播 "
    "电视 高等 中等 综合 专业 技工 卫生 社区 街道 我们 他们 新 老 大 小 好 破 烂 黑 总 分 子 母 化工 机械 钢铁 汽修 美容 地方 中国 美国 英国 "
    "日本 高级 初级 国家 民营 私营 快递 创业 设计 游戏 影视 旅游 旅行 直播 中介 家政 装饰 工程 建设 生物 医药 信息 咨询 管理 人力 资源".split()
)
_GENERIC_AFTER_CITY = ("公司", "工厂", "学校", "酒店", "宾馆", "超市", "医院", "幼儿园", "小学", "中学", "高中", "大学")
_NAME_TAGS = (
    "nr",
    "ns",
    "nt",
    "nz",
    "n",
    "ng",
    "nrt",
    "nrfg",
    "s",
    "j",
    "a",
    "ag",
    "vn",
    "v",
    "vg",
    "t",
    "f",
    "x",
    "m",
    "z",
    "b",
    "i",
    "l",
)
_OWN_TAGS = ("nr", "nrt", "nrfg", "ns", "nz", "s")


def _institutions(words: list[Word]) -> Iterator[Span]:
    for i, word in enumerate(words):
        if word.tag == "nt" and len(word.text) > 3:
            yield "institution", word.start, word.stop
            continue
        head = re.fullmatch(rf"([\u4e00-\u9fff]{{2,}}?){_HEADS}|{_HEADS}", word.text)
        if head is None:
            continue
        first = _name_start(words, i)
        if head[1] and word.tag in _OWN_TAGS and head[1] not in _MODIFIERS:  # one word: 阳光养老院/nr
            first = min(first, i) if first is not None else i
        if first is not None:
            yield "institution", words[first].start, word.stop


def _name_start(words: list[Word], head: int) -> int | None:
    """Index of the first word of an institution's own name before its head, or None for a mere kind of institution."""
    first, own = head, False
    for i in range(head - 1, max(head - 5, -1), -1):
        word = words[i]
        is_modifier = word.text in _MODIFIERS or re.fullmatch(r"第[一二三四五六七八九十]+", word.text)
        if is_modifier or re.fullmatch(_HEADS, word.text):
            first, own = i, own or word.text.startswith("第")
            continue
        if word.tag in _OWN_TAGS and len(word.text) > 1 and not (word.tag == "ns" and _is_city(word.text)):
            first, own = i, True
        elif word.tag == "ns" and words[head].text not in _GENERIC_AFTER_CITY:
            first, own = i, True
        break
    return first if own else None


def _is_city(name: str) -> bool:
    return name in _CITIES or name.removesuffix("市").removesuffix("省") in _CITIES


_CITIES = frozenset(
    "中国 美国 英国 日本 韩国 法国 德国 加拿大 澳大利亚 澳洲 新加坡 欧洲 亚洲 非洲 香港 澳门 台湾 北京 上海 天津 重庆 广州 深圳 成都 杭州 武汉 西安 "
    "南京 苏州 长沙 郑州 青岛 沈阳 大连 厦门 福州 济南 宁波 合肥 昆明 哈尔滨 长春 石家庄 太原 南昌 贵阳 南宁 海口 三亚 兰州 银川 西宁 拉萨 "
    "乌鲁木齐 呼和浩特 无锡 东莞 佛山 珠海 温州 大理 丽江 桂林 四川 广东 浙江 江苏 山东 河南 河北 湖南 湖北 福建 江西 安徽 云南 贵州 广西 "
    "海南 陕西 山西 甘肃 青海 新疆 西藏 宁夏 内蒙古 辽宁 吉林 黑龙江".split()
)


# ---- addresses

_HAN = r"[\u4e00-\u9fff]"
_NUMBERED = re.compile(rf"({_HAN}{{1,6}}?(?:路|街|大道|巷|胡同|弄|道|里))\d{{1,5}}(?:号|弄)")
_BUILDING = re.compile(
    r"\d{1,3}(?:栋|幢|座|号楼)(?:\d{1,2}单元)?(?:\d{3,4}室?)?|[A-Z]座\d{3,4}|\d{1,2}单元\d{3,4}|\d{3,4}室"
)
_ESTATE = re.compile(rf"({_HAN}{{2,6}}?)(?:小区|花园|公寓|名苑|花苑|新村|家园|大厦|广场|工业园|社区|别墅)")
_VILLAGE = re.compile(rf"{_HAN}{{2,3}}[镇乡县区]{_HAN}{{2,4}}(?:村|街道|屯|庄|镇)")
_STREET_END = re.compile(r"(?:路|街|大道|巷|胡同|街道)$")
_NO_STREET = frozenset(
    "马路 公路 铁路 高速公路 道路 小路 大路 山路 一路 走路 出路 思路 套路 心路 后路 前路 退路 路 街 大街 逛街 街道 老街 小巷 小街 步行街 商业街 "
    "人生路 回家路 半路 弯路 网路 电路 线路 顺路 同路 上路 迷路 绕路 赶路 生路 死路 绝路 活路 末路 歧路 这条路 那条路 条路 条街 的路 红毯 一条街".split()
)


def _addresses(text: str, words: list[Word]) -> Iterator[Span]:
    starts = {w.start for w in words}
    for found in _NUMBERED.finditer(text):
        yield "address", *found.span()
    for found in _BUILDING.finditer(text):
        yield "address", *found.span()
    for found in _VILLAGE.finditer(text):
        if found.start() in starts:
            yield "address", *found.span()
    for i, word in enumerate(words):
        before = words[i - 1] if i else None
        own = before is not None and before.tag in _OWN_TAGS and not _is_city(before.text)
        if (
            _STREET_END.search(word.text)
            and word.text not in _NO_STREET
            and word.tag in _OWN_TAGS
            and len(word.text) > 2
        ):
            yield "address", word.start, word.stop
        elif before and own and re.fullmatch(r"(?:[东西南北中]?(?:路|街|大道|巷|胡同|街道))", word.text):
            yield "address", before.start, word.stop
        elif before and own and _ESTATE.fullmatch("某某" + word.text):
            yield "address", before.start, word.stop
