"""Sentences composed of our events and feelings in everyday frames (CC0), for `emotion_data.py`."""

from __future__ import annotations

import random
from pathlib import Path

ASSETS = Path(__file__).parents[1] / "src/pege/assets/emotion"
Row = tuple[tuple[float, float, float], str]  # probabilities, text

FEELINGS = {
    ("en", "negative"): [
        "sad",
        "angry",
        "upset",
        "scared",
        "terrified",
        "worried",
        "anxious",
        "nervous",
        "lonely",
        "disappointed",
        "devastated",
        "heartbroken",
        "furious",
        "annoyed",
        "frustrated",
        "jealous",
        "ashamed",
        "embarrassed",
        "guilty",
        "disgusted",
        "hurt",
        "depressed",
        "miserable",
        "stressed",
        "exhausted",
        "hopeless",
        "afraid",
        "overwhelmed",
        "bitter",
        "helpless",
    ],
    ("en", "positive"): [
        "happy",
        "glad",
        "excited",
        "proud",
        "grateful",
        "thankful",
        "relieved",
        "thrilled",
        "joyful",
        "hopeful",
        "confident",
        "calm",
        "content",
        "delighted",
        "pleased",
        "cheerful",
        "blessed",
        "lucky",
        "relaxed",
        "optimistic",
        "loved",
        "amazed",
        "impressed",
        "satisfied",
        "encouraged",
        "comforted",
    ],
    (
        "zh",
        "negative",
    ): [
        "难过",
        "生气",
        "害怕",
        "担心",
        "焦虑",
        "紧张",
        "孤独",
        "失望",
        "伤心",
        "愤怒",
        "烦躁",
        "郁闷",
        "嫉妒",
        "羞愧",
        "尴尬",
        "内疚",
        "恶心",
        "委屈",
        "痛苦",
        "沮丧",
        "绝望",
        "无助",
        "疲惫",
        "崩溃",
        "后悔",
        "迷茫",
        "压抑",
        "难受",
        "心烦",
        "无奈",
    ],
    ("zh", "positive"): [
        "开心",
        "高兴",
        "激动",
        "自豪",
        "感激",
        "庆幸",
        "轻松",
        "兴奋",
        "快乐",
        "幸福",
        "有信心",
        "平静",
        "满足",
        "欣慰",
        "愉快",
        "温暖",
        "幸运",
        "踏实",
        "乐观",
        "感动",
        "惊喜",
        "满意",
        "安心",
        "舒服",
        "放心",
    ],
}
FEELING_FRAMES = {
    "en": [
        "I am {}.",
        "I'm so {}!",
        "I feel {}.",
        "I feel really {} today.",
        "I was {} when I heard it.",
        "It made me feel {}.",
        "I have been feeling {} lately.",
        "She seems {}.",
        "We were all so {}.",
        "I'm a little {} about it.",
        "{}",
        "Why are you so {}?",
    ],
    "zh": [
        "我很{}。",
        "我好{}啊！",
        "我觉得很{}。",
        "今天特别{}。",
        "听到以后我很{}。",
        "这让我很{}。",
        "最近一直很{}。",
        "他看起来很{}。",
        "有点{}。",
        "{}",
    ],
}
NOT_FRAMES = {
    "en": ["I'm not {}.", "I don't feel {} at all.", "I wasn't {} about it.", "I am not {} any more."],
    "zh": ["我不{}。", "我一点也不{}。", "我并不{}。", "我不再{}了。"],
}
OPENINGS = {
    "en": [
        "",
        "",
        "",
        "Today ",
        "Yesterday ",
        "Last week ",
        "Guess what, ",
        "So, ",
        "I just found out that ",
        "Last night ",
        "I remember when ",
    ],
    "zh": ["", "", "今天", "昨天", "上周", "你知道吗，", "刚刚", "前几天"],
}
CLOSERS = {
    ("en", "positive"): [
        "Thank you!",
        "Thanks, I feel much better now.",
        "That helps a lot.",
        "You made my day!",
        "Thanks for listening.",
        "I'm glad we talked.",
        "I will, thanks!",
        "That means a lot to me.",
        "I really appreciate it.",
        "You are so kind.",
        "I can't wait!",
        "I feel so much better.",
        "Thank you so much for your help!",
        "That is a great idea, thank you.",
        "I'm excited!",
        "I love it!",
        "It was so much fun!",
        "I had a great time.",
    ],
    (
        "zh",
        "positive",
    ): [
        "谢谢你！",
        "谢谢，我感觉好多了。",
        "你真好。",
        "太谢谢你了！",
        "谢谢你听我说。",
        "和你聊天真开心。",
        "我会的，谢谢！",
        "非常感谢！",
        "好期待！",
        "心情好多了。",
        "这个主意太好了，谢谢你。",
        "我好喜欢！",
        "真开心！",
        "太棒了！",
        "听你这么说我就放心了。",
    ],
}
SURE = {"negative": (0.94, 0.05, 0.01), "neutral": (0.03, 0.94, 0.03), "positive": (0.01, 0.04, 0.95)}


def composed(rng: random.Random) -> list[Row]:
    """Sentences of our events and feelings; (probabilities, text)."""
    rows: list[Row] = []
    for (language, label), words in FEELINGS.items():
        for word in words:
            rows += [(SURE[label], frame.format(word)) for frame in FEELING_FRAMES[language]]
            turned = (0.80, 0.17, 0.03) if label == "positive" else (0.10, 0.45, 0.45)
            rows += [(turned, frame.format(word)) for frame in NOT_FRAMES[language]]
    for line in (ASSETS / "events.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        language, label, event = line.split("\t")
        for _ in range(10):
            text = rng.choice(OPENINGS[language]) + event + rng.choice(".!" if language == "en" else "。！")
            if label != "neutral" and rng.random() < 0.5:
                frame = rng.choice(FEELING_FRAMES[language][:6])
                text += " " + frame.format(rng.choice(FEELINGS[language, label]))
            rows.append((SURE[label], text))
    for (language, _), closers in CLOSERS.items():
        for first in closers:
            seconds = ["", *rng.sample(closers, 8)]
            rows += [(SURE["positive"], f"{first} {second}".strip()) for second in seconds if second != first]
        starts = {
            "en": ("Yes,", "Okay,", "You're right.", "Haha,", "Yeah,"),
            "zh": ("嗯，", "好的，", "你说得对。", "哈哈，"),
        }
        rows += [(SURE["positive"], f"{start} {closer}") for start in starts[language] for closer in closers]
    return rows
