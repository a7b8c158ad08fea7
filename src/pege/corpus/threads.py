"""Forum threads, trees of posts, to sessions between two people (docs/rows.md)."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pege.corpus.rows import RawRow, alternate
from pege.errors import InputError
from pege.io import read_lines

log = logging.getLogger(__name__)

#: what we read -> the names that dumps have for it, the first one present counts
FIELDS: dict[str, tuple[str, ...]] = {
    "id": ("id", "post_id", "comment_id", "mid", "_id"),
    "parent": ("parent", "parent_id", "pid", "reply_to", "reply-to", "in_reply_to", "in_reply_to_id"),
    "author": ("author", "user", "speaker", "uid", "user_id", "author_id", "screen_name"),
    "text": ("text", "body", "content", "selftext"),
    "thread": ("link_id", "conversation_id", "thread_id", "root", "root_id", "rootid"),
}
_REDDIT_NAME = re.compile(r"t[13]_[0-9a-z]+")
_GONE_TEXTS = {"", "[deleted]", "[removed]", "[deleted by user]", "[ removed by reddit ]", "[removed by reddit]"}
_GONE_STARTS = ("抱歉，此微博已被", "抱歉，该微博已被", "该评论已被删除", "该内容已被删除", "原微博已被删除")
_NOBODY = {  # no author any more, or known bots
    "", "[deleted]", "[removed]",
    "automoderator", "autotldr", "autowikibot", "wikitextbot", "remindmebot", "sneakpeekbot", "totesmessenger",
    "gifreversingbot", "imguralbumbot", "alternate-source-bot", "commonmisspellingbot", "haikubot-1911",
    "repostsleuthbot", "savevideo", "vredditdownloader", "stabbot", "converter-bot", "metric_units", "linkfixerbot",
}  # fmt: skip
_NONE = -1


@dataclass(frozen=True, slots=True)
class Post:
    """One post of a forum.

    Attributes:
        id: unique in the file.
        parent: the id of the post that it answers; None for a root.
        author: who wrote it.
        text: what it says.
        line: where it stands in the file, from 1.
        thread: what the source calls the whole thread, where it says.
    """

    id: str
    parent: str | None
    author: str
    text: str
    line: int
    thread: str | None = None

    @property
    def is_gone(self) -> bool:
        """Whether nothing of a person is left: deleted, removed, empty, or written by a known bot."""
        text = self.text.strip().lower()
        return (
            text in _GONE_TEXTS or self.author.strip().lower() in _NOBODY or self.text.lstrip().startswith(_GONE_STARTS)
        )


@dataclass(frozen=True, slots=True)
class Session:
    """A stretch of a root-to-leaf path in which exactly two people speak.

    Attributes:
        thread: the source's name of the thread, else the id of the tree's root.
        posts: from the earliest to the latest, each the parent of the next.
    """

    thread: str
    posts: tuple[Post, ...]

    @property
    def id(self) -> str:
        """Unique and the same on every reading: ``THREAD#FIRST~LAST``, ids of the source."""
        return f"{_quote(self.thread)}#{_quote(self.posts[0].id)}~{_quote(self.posts[-1].id)}"


def _quote(name: str) -> str:
    return name.replace("%", "%25").replace("#", "%23").replace("~", "%7E")


def read_threads(path: Path) -> Iterator[RawRow]:
    """Read a file of posts (JSONL or Parquet), in any order, as rows of two-person sessions.

    Bad lines, posts without id, author or text, repeated ids and posts on a cycle come out as an InputError each.
    All posts of the file are held in memory.
    """
    return read_posts(path, source="threads")


def read_posts(path: Path, *, source: str) -> Iterator[RawRow]:
    """Do `read_threads` for any source; its name goes into the rows."""
    posts: list[Post] = []
    for line, row in read_lines(path):
        post = row if isinstance(row, InputError) else as_post(row, line)
        if isinstance(post, Post):
            posts.append(post)
        else:
            yield path.name, line, post
    sessions = iter_sessions(posts)
    del posts
    for item in sessions:
        if isinstance(item, Session):
            yield path.name, item.posts[-1].line, _as_row(item, source)
        else:
            yield path.name, item[0].line, item[1]


def _as_row(session: Session, source: str) -> dict[str, Any]:
    return {
        "id": session.id,
        "source": source,
        "messages": alternate((p.author, p.text) for p in session.posts),
        "posts": [p.id for p in session.posts],
    }


# ---- one line to a post


def as_post(row: Mapping[str, Any], line: int) -> Post | InputError:
    """Give a dump's row as a post, or why it is none."""
    identity, author = _name(row, "id"), _name(row, "author")
    text = _field(row, "text")
    parent = _name(row, "parent") or None
    if parent is None and row.get("title"):  # a submission: its title is said first
        text = f"{row['title']}\n{text or ''}"
    for what, value in (("id", identity), ("author", author), ("text", text)):
        if value is None:
            return InputError(f"a post without {what}")
    if not isinstance(text, str):
        return InputError(f"the text of a post is a {type(text).__name__}")
    if "link_id" in row or "selftext" in row or (parent and _REDDIT_NAME.fullmatch(parent)):
        identity = _reddit_name(str(identity), row)
    return Post(str(identity), parent, str(author), text, line, _name(row, "thread") or None)


def _reddit_name(identity: str, row: Mapping[str, Any]) -> str:
    """Give ``t1_ID`` to a comment and ``t3_ID`` to a submission, as parents are named: they may share an id."""
    if _REDDIT_NAME.fullmatch(identity):
        return identity
    return f"t3_{identity}" if "body" not in row and ("selftext" in row or "title" in row) else f"t1_{identity}"


def _field(row: Mapping[str, Any], what: str) -> Any:
    return next((row[name] for name in FIELDS[what] if row.get(name) is not None), None)


def _name(row: Mapping[str, Any], what: str) -> str | None:
    value = _field(row, what)
    if isinstance(value, Mapping):  # {"user": {"id": ..., "name": ...}}
        value = _field(value, "id")
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column with nulls that went through pandas
    return str(value) if isinstance(value, str | int) else None


# ---- posts to sessions


def iter_sessions(posts: Iterable[Post]) -> Iterator[Session | tuple[Post, InputError]]:
    """Cut trees of posts into sessions of two people; the order of the posts changes nothing but the order of these.

    A session is a path downwards in a tree on which exactly two people speak, and which can be made no longer: its
    first post answers nobody, a third person's post or one that is gone, or is the first of a block of posts whose
    parent is of a third person; below its last one neither of the two goes on. So no session is found twice and none
    lies within another; two may share a beginning (two answers to one post), or the block where a third person
    takes over, which ends one and starts the next. Posts that are gone belong to none.

    Yields:
        Sessions of at least two posts; a post and why it was left out.
    """
    kept, problems = _unique(posts)
    yield from problems
    parents, n_orphans = _parent_indices(kept)
    on_cycle = _posts_on_cycles(parents)
    for k in sorted(on_cycle):
        yield kept[k], InputError("cycle: a post that answers itself by way of its parents")
    if n_orphans:
        log.info("%d posts answer one that is not in the file; each starts a thread", n_orphans)
    live = [k not in on_cycle and not post.is_gone for k, post in enumerate(kept)]
    yield from _cut(kept, [_NONE if p in on_cycle else p for p in parents], live)


def _unique(posts: Iterable[Post]) -> tuple[list[Post], list[tuple[Post, InputError]]]:
    """Keep one post an id, whatever their order: one that is not gone, then the first by its content."""
    by_id: dict[str, Post] = {}
    problems = []
    for post in posts:
        other = by_id.get(post.id)
        if other is not None:
            post, other = sorted((post, other), key=lambda p: (p.is_gone, p.parent or "", p.author, p.text, p.line))
            problems.append((other, InputError(f"duplicate-id: {post.id!r} is also that of line {post.line}")))
        by_id[post.id] = post
    return list(by_id.values()), problems


def _parent_indices(posts: list[Post]) -> tuple[list[int], int]:
    """Give each post's parent as an index, -1 for a root; and how many parents were not found."""
    places = {post.id: k for k, post in enumerate(posts)}
    parents = []
    n_orphans = 0
    for post in posts:
        place = _NONE
        if post.parent is not None:
            bare = post.parent[3:] if _REDDIT_NAME.fullmatch(post.parent) else post.parent
            place = places.get(post.parent, places.get(bare, _NONE))
            n_orphans += place == _NONE
        parents.append(place)
    return parents, n_orphans


def _posts_on_cycles(parents: list[int]) -> set[int]:
    found: set[int] = set()
    seen_from = [_NONE] * len(parents)  # the walk that came by first
    for start in range(len(parents)):
        k = start
        while k != _NONE and seen_from[k] == _NONE:
            seen_from[k] = start
            k = parents[k]
        if k != _NONE and seen_from[k] == start:
            found.add(k)
            while (k := parents[k]) not in found:
                found.add(k)
    return found


def _cut(posts: list[Post], parents: list[int], live: list[bool]) -> Iterator[Session]:
    n = len(posts)
    roots = list(range(n))  # of the tree, gone posts included: it names the thread
    starts, blocks = list(range(n)), list(range(n))  # first post of the stretch; of the last author's posts
    partners: list[str | None] = [None] * n  # who spoke before the last author
    goes_on = [False] * n
    for k in _downwards(parents):
        p = parents[k]
        if p == _NONE:
            continue
        roots[k] = roots[p]
        if not (live[k] and live[p]):
            continue
        author, last, partner = posts[k].author, posts[p].author, partners[p]
        if author == last:
            starts[k], blocks[k], partners[k] = starts[p], blocks[p], partner
        else:
            starts[k] = starts[p] if partner in (None, author) else blocks[p]
            partners[k] = last
        goes_on[p] |= partner is None or author in (last, partner)
    for k in range(n):
        if live[k] and partners[k] is not None and not goes_on[k]:
            path = [k]
            while path[-1] != starts[k]:
                path.append(parents[path[-1]])
            yield Session(posts[k].thread or posts[roots[k]].id, tuple(posts[i] for i in reversed(path)))


def _downwards(parents: list[int]) -> Iterator[int]:
    """Go through all posts, a parent before its children, without recursion."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for k, p in enumerate(parents):
        children[p].append(k)
    stack = children.pop(_NONE, [])
    while stack:
        k = stack.pop()
        yield k
        stack.extend(children.pop(k, ()))
