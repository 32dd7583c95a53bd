"""What do the names of columns say: lengths, parts of lengths, times, sessions?"""

from __future__ import annotations

import difflib
import re

__all__ = [
    "ARRIVALS",
    "DECODES",
    "PROMPTS",
    "SESSIONS",
    "part_of_name",
    "side_of_name",
    "total_of_name",
    "truer_side_of_name",
]

SESSIONS = (
    "sessionid", "session", "conversationid", "conversation", "threadid", "chatid", "traceid",
    "userid", "user", "enduser", "clientid",
)  # fmt: skip
ARRIVAL_NAMES = (
    "arrivedat", "arrivaltime", "arrivaltimestamp", "arrival", "arrivals", "timestamp",
    "timestamps", "requesttime", "requesttimestamp", "starttime", "starttimeunix",
    "requeststarttime", "requeststart", "requestcreatedat", "created", "createdat", "datetime",
    "time", "ts", "timegenerated", "timegeneratedutc", "createtime",
)  # fmt: skip
UNIT_ENDINGS = ("", "s", "sec", "seconds", "ms", "millis", "us", "micros", "ns", "nano", "nanos")
ARRIVALS = tuple(name + unit for name in ARRIVAL_NAMES for unit in UNIT_ENDINGS)
PROMPTS = (
    "numprefilltokens", "prompttokens", "promptlen", "promptlength", "promptsize",
    "inputtokens", "inputlength", "inputlen", "inputlens", "inputtoks", "inputsize",
    "contexttokens", "contextlength", "contextlen", "requesttokens", "numprompttokens",
    "numinputtokens", "prefilltokens", "prefilllength", "prefilllen", "prefill", "isl", "plen",
    "promptlens", "nprompttokens", "ninputtokens", "inputsequencelength", "prompt", "input",
    "inputids", "prompttokenids", "inputtokenids",
)  # fmt: skip
DECODES = (
    "numdecodetokens", "decodetokens", "decodelen", "decodelength", "completiontokens",
    "outputtokens", "outputlength", "outputlen", "outputlens", "outputtoks", "outputsize",
    "generatedtokens", "generatedlength", "generationtokens", "generationlength",
    "generationlen", "responsetokens", "responselength", "responselen", "tokensize",
    "numoutputtokens", "numcompletiontokens", "numgeneratedtokens", "completionlength",
    "completionlen", "osl", "olen", "noutputtokens", "ngeneratedtokens", "newtokens",
    "outputsequencelength", "decode", "output", "outputids", "outputtokenids",
    "completiontokenids",
)  # fmt: skip

PROMPT_WORDS = frozenset({"prompt", "prompts", "input", "inputs", "in", "context", "prefill"})
DECODE_WORDS = frozenset({
    "completion", "completions", "output", "outputs", "out", "generated", "generation", "decode",
    "response", "gen",
})  # fmt: skip
MEASURE_WORDS = frozenset({
    "token", "tokens", "tok", "toks", "length", "lengths", "len", "lens", "size", "count",
    "counts", "number", "num", "nb", "no", "n", "of", "tokenized", "sequence", "seq",
})  # fmt: skip
LIKELY_WORDS = {
    "prompt": PROMPT_WORDS | {"query", "question", "request", "user"},
    "decode": DECODE_WORDS | {"answer", "reply", "assistant"},
}
TRUER_WORDS = frozenset({"actual", "real", "native", "server", "measured", "reported", "true"})
"""What was counted where the request was served, beside what was asked for or estimated."""
PARTS = {
    "reasoning": frozenset({"reasoning", "thinking", "thought", "thoughts"}),
    "cached": frozenset({"cache", "cached"}),
    "tool": frozenset({"tool"}),
    "media": frozenset({"audio", "image", "images", "video"}),
    "predicted": frozenset({"prediction"}),
}
PART_WORDS = frozenset().union(*PARTS.values()) | {
    "read", "write", "creation", "hit", "content", "use", "accepted", "rejected", "details",
    "detail", "native",
}  # fmt: skip
ALL_WORDS = [*sorted(LIKELY_WORDS["prompt"] | LIKELY_WORDS["decode"] | MEASURE_WORDS), "total"]


def _words(name: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name)}


def part_of_name(name: str, is_in_usage: bool = False) -> tuple[str, str]:
    """Return of which side a column counts a part, and of what; two empty words if it does not.

    Parameters
    ----------
    name
        Of the column below the object that holds the lengths.
    is_in_usage
        Whether that object is known to hold counts of tokens, which the name need not say then.

    Examples
    --------
    >>> [part_of_name(n) for n in ("cacheReadInputTokens", "thoughtsTokenCount", "cache_hit_rate")]
    [('prompt', 'cached'), ('decode', 'reasoning'), ('', '')]
    """
    words = _words(name)
    kinds = [kind for kind, marks in PARTS.items() if words & marks]
    is_count = is_in_usage or bool(words & MEASURE_WORDS)
    known = PART_WORDS | MEASURE_WORDS | PROMPT_WORDS | DECODE_WORDS
    if len(kinds) != 1 or not is_count or not words <= known:
        return "", ""
    side = {"reasoning": "decode", "predicted": "decode", "media": ""}.get(kinds[0], "prompt")
    named = [
        which
        for which, marks in (("prompt", PROMPT_WORDS), ("decode", DECODE_WORDS))
        if words & marks
    ]
    if len(named) > 1 or (named and side not in ("", named[0])) or not (side or named):
        return "", ""
    return side or named[0], kinds[0]


def total_of_name(name: str, is_in_usage: bool = False) -> str:
    """Return what a column counts in all: ``both`` sides, ``prompt`` or ``decode``; "" if nothing.

    Parameters
    ----------
    name, is_in_usage
        As for `part_of_name`.

    Examples
    --------
    >>> [total_of_name(name) for name in ("totalTokenCount", "total_input_tokens", "total_cost")]
    ['both', 'prompt', '']
    """
    words = _words(name)
    if "total" not in words or not (is_in_usage or words & {"token", "tokens", "toks"}):
        return ""
    if words <= MEASURE_WORDS | {"total", "usage"}:
        return "both"
    return side_of_name(" ".join(words - {"total"}))


def truer_side_of_name(column: str) -> str:
    """Return the side of a length that says of itself that it is the real one, "" for others.

    Examples
    --------
    >>> [truer_side_of_name(n) for n in ("actual_output_len", "native_tokens_prompt", "osl")]
    ['decode', 'prompt', '']
    """
    last = column.rpartition(".")[2]
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", last)
    plain = " ".join(word for word in words if word.lower() not in TRUER_WORDS)
    return side_of_name(plain) if len(plain) < len(" ".join(words)) else ""


def side_of_name(column: str, is_sure: bool = True) -> str:
    """Return "prompt" or "decode" if each word of a column's name says so or is about counting.

    Parameters
    ----------
    column
        As the file spells it; of a nested name the last part counts, or else the last two.
    is_sure
        False takes weaker words as well: a hint, not a reading.

    Examples
    --------
    >>> [side_of_name(name) for name in ("nb_input_tokens", "tokensOut", "output_tokens_per_s")]
    ['prompt', 'decode', '']
    """
    for last in (1, 2):
        part = " ".join(column.split(".")[-last:])
        words = _words(part)
        if not is_sure:  # misspelt words are likely what they look like
            words = {(difflib.get_close_matches(w, ALL_WORDS, 1, 0.8) or [w])[0] for w in words}
        measures = words & (MEASURE_WORDS if is_sure else MEASURE_WORDS | {"total"})
        meanings = words - measures
        for side, sure in (("prompt", PROMPT_WORDS), ("decode", DECODE_WORDS)):
            known = sure if is_sure else LIKELY_WORDS[side]
            if measures and len(meanings) == 1 and meanings <= known:
                return side
    return ""
