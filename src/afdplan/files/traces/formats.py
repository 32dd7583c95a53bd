"""By which column names is each trace format known, and what do they mean?"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

__all__ = ["DECODES", "FORMATS", "OTHER_KINDS", "PROMPTS", "UNITS", "TraceFormat", "side_of_name"]

UNITS = ("s", "ms", "us", "ns", "iso")


SUCCESS_FLAGS = ("success", "issuccess", "successful", "issuccessful", "succeeded", "ok", "isok")
"""Columns that say by "false" that a request failed."""
FAILURE_FLAGS = ("failed", "isfailed", "iserror", "haserror", "aborted", "cancelled", "canceled")
"""Columns that say so by "true"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceFormat:
    """The column names of one format, normalised: lower case, letters and digits only.

    Attributes
    ----------
    name
        What `--format` calls it.
    prompt, decode
        Names of the length columns, best first; all formats need one of each.
    needs
        Names that tell this format from others with the same length columns.
    level
        Dotted name of the nested lists whose objects are the requests, where that tells it.
    are_spans
        Whether records may be parts of programs of all kinds, of which few are requests.
    arrival, session, parent, failed
        Names of optional columns, best first. `parent` links a request to the one before it;
        a row with something in a `failed` column is left out.
    kind
        Columns that say what a record is: those of `OTHER_KINDS` are no requests.
    request
        Columns that name the request: two records with one name are one request.
    span, span_parent
        Columns that name a span and the one around it, which may sum up what is inside.
    answered
        Columns that say of a request that a cache of answers, and no engine, answered it.
    added_to_prompt
        Columns of cached prompt tokens that the prompt column does not count.
    cached
        Columns whose presence says that the prompt column counts cached prefixes.
    unit
        Unit of arrivals by the format's definition; empty if it must be found out.
    """

    name: str
    prompt: tuple[str, ...]
    decode: tuple[str, ...]
    needs: tuple[str, ...] = ()
    level: str = ""
    are_spans: bool = False
    arrival: tuple[str, ...] = ()
    session: tuple[str, ...] = ()
    parent: tuple[str, ...] = ()
    failed: tuple[str, ...] = (
        "errors", "error", "errormessage", "errorstr", "errorcode", "status", "statuscode",
        "wascancelled", "state", "finishreason", *SUCCESS_FLAGS, *FAILURE_FLAGS,
    )  # fmt: skip
    added_to_prompt: tuple[str, ...] = ()
    cached: tuple[str, ...] = ()
    unit: str = ""
    kind: tuple[str, ...] = (
        "genai.operation.name", "openinference.span.kind", "traceloop.span.kind", "spankind",
        "calltype", "runtype", "benchmarkphase",
    )  # fmt: skip
    request: tuple[str, ...] = (
        "requestid", "xrequestid", "generationid", "responseid", "callid", "litellmcallid",
        "spanid", "observationid",
    )  # fmt: skip
    span: tuple[str, ...] = ("context.spanid", "spanid", "runid")
    span_parent: tuple[str, ...] = ("parentspanid", "parentrunid", "parentid")
    answered: tuple[str, ...] = ("cachehit", "fromcache", "iscached")


OTHER_KINDS = frozenset({
    "agent", "invokeagent", "createagent", "workflow", "invokeworkflow", "chain", "task", "tool",
    "executetool", "embedding", "embeddings", "aembedding", "retriever", "retrieval", "reranker",
    "rerank", "arerank", "guardrail", "evaluator", "span", "event", "warmup", "transcription",
    "atranscription", "imagegeneration", "aimagegeneration", "moderation", "amoderation", "plan",
})  # fmt: skip
"""Kinds of records that are no requests to a model that decodes, or sum up several."""
SESSIONS = (
    "sessionid", "session", "conversationid", "conversation", "threadid", "chatid", "traceid",
    "userid", "user", "enduser", "clientid",
)  # fmt: skip
ARRIVAL_NAMES = (
    "arrivedat", "arrivaltime", "arrivaltimestamp", "arrival", "arrivals", "timestamp",
    "timestamps", "requesttime", "requesttimestamp", "starttime", "starttimeunix",
    "requeststarttime", "requeststart", "requestcreatedat", "created", "createdat", "datetime",
    "time", "ts",
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
OPENAI_CACHED = ("prompttokensdetails.cachedtokens", "inputtokensdetails.cachedtokens")

OPENTELEMETRY_SESSIONS = ("genai.conversation.id", "session.id", "context.traceid", "traceid")

FORMATS: tuple[TraceFormat, ...] = (
    TraceFormat(
        name="azure",
        prompt=("contexttokens",),
        decode=("generatedtokens",),
        needs=("timestamp",),
        arrival=("timestamp",),
    ),
    TraceFormat(
        name="burstgpt",
        prompt=("requesttokens",),
        decode=("responsetokens",),
        needs=("timestamp",),
        arrival=("timestamp",),
        session=("sessionid",),
        unit="s",
    ),
    TraceFormat(
        name="bailian",
        prompt=("inputlength",),
        decode=("outputlength",),
        needs=("chatid",),
        arrival=("timestamp",),
        session=("chatid",),
        parent=("parentchatid",),
        cached=("hashids",),
        unit="s",
    ),
    TraceFormat(
        name="mooncake",
        prompt=("inputlength",),
        decode=("outputlength",),
        arrival=("timestamp",),
        session=("sessionid",),
        cached=("hashids",),
        unit="ms",
    ),
    TraceFormat(
        name="vidur",
        prompt=("numprefilltokens",),
        decode=("numdecodetokens",),
        arrival=("arrivedat",),
        session=("sessionid",),
        unit="s",
    ),
    TraceFormat(
        name="splitwise",
        prompt=("promptsize",),
        decode=("tokensize",),
        arrival=("arrivaltimestamp",),
        unit="s",
    ),
    TraceFormat(
        name="llmservingsim",
        prompt=("inputtoks",),
        decode=("outputtoks",),
        needs=("arrivaltimens",),
        arrival=("arrivaltimens",),
        session=("sessionid",),
        unit="ns",
    ),
    TraceFormat(
        name="bench",
        prompt=("inputlens",),
        decode=("outputlens",),
        arrival=("starttimes",),
        failed=("errors", "error"),
        unit="s",
    ),
    TraceFormat(
        name="opentelemetry",
        are_spans=True,
        prompt=("genai.usage.inputtokens", "genai.usage.prompttokens"),
        decode=("genai.usage.outputtokens", "genai.usage.completiontokens"),
        arrival=("starttimeunixnano", "starttime", "timestamp"),
        session=OPENTELEMETRY_SESSIONS,
        failed=("error.type", "status.code", "status.statuscode", "statuscode"),
        cached=("genai.usage.cacheread.inputtokens",),
    ),
    TraceFormat(
        name="openinference",
        are_spans=True,
        prompt=("llm.tokencount.prompt",),
        decode=("llm.tokencount.completion",),
        arrival=("starttime", "starttimeunixnano", "timestamp"),
        session=OPENTELEMETRY_SESSIONS,
        failed=("statuscode", "status.code", "status.statuscode"),
        cached=("llm.tokencount.promptdetails.cacheread",),
    ),
    TraceFormat(
        name="langfuse",
        are_spans=True,
        prompt=("usagedetails.input", "usage.input", "prompttokens", "inputusage"),
        decode=("usagedetails.output", "usage.output", "completiontokens", "outputusage"),
        needs=("traceid", "starttime", "type"),
        arrival=("starttime",),
        session=("sessionid", "traceid"),
        failed=("level", "statusmessage.error"),
        added_to_prompt=(
            "usagedetails.inputcachedtokens",
            "usagedetails.inputcacheread",
            "usagedetails.cachereadinputtokens",
            "usagedetails.inputcachecreation",
            "usagedetails.cachecreationinputtokens",
        ),
        cached=("usagedetails.inputcachedtokens", "usagedetails.cachereadinputtokens"),
        kind=("type",),
        request=("id",),
        span=("id",),
        span_parent=("parentobservationid",),
    ),
    TraceFormat(
        name="aiperf",
        prompt=("metrics.usageprompttokens.value", "metrics.inputsequencelength.value"),
        decode=("metrics.usagecompletiontokens.value", "metrics.outputsequencelength.value"),
        arrival=("metadata.requeststartns",),
        session=("metadata.conversationid", "metadata.xcorrelationid"),
        unit="ns",
    ),
    TraceFormat(
        name="guidellm",
        prompt=("prompttokens", "inputmetrics.totaltokens", "inputmetrics.texttokens"),
        decode=("outputtokens", "outputmetrics.totaltokens", "outputmetrics.texttokens"),
        needs=("guidellmoutcome",),
        arrival=(
            "requeststarttime",
            "info.timings.requeststart",
            "timings.requeststart",
            "schedulerinfo.requesttimings.requeststart",
            "starttime",
        ),
        session=("info.conversationid",),
        failed=("guidellmoutcome", "error"),
        unit="s",
    ),
    TraceFormat(
        name="genai-bench",
        prompt=("numinputtokens",),
        decode=("numoutputtokens",),
        needs=("e2elatency",),
        failed=("errorcode", "errormessage"),
    ),
    TraceFormat(
        name="inference-perf",
        prompt=("info.responsemetrics.serverusage.prompttokens", "info.inputtokens"),
        decode=(
            "info.responsemetrics.serverusage.completiontokens",
            "info.outputtokens",
            "info.responsemetrics.outputtokens",
        ),
        needs=("starttime", "endtime"),
        arrival=("starttime",),
        failed=("error",),
        unit="s",
    ),
    TraceFormat(
        name="llmperf",
        prompt=("numberinputtokens",),
        decode=("numberoutputtokens",),
        needs=("numbertotaltokens",),
        failed=("errorcode", "errormsg"),
    ),
    TraceFormat(
        name="openrouter",
        prompt=("tokensprompt",),
        decode=("tokenscompletion",),
        needs=("generationid",),
        arrival=("createdat",),
        failed=("cancelled",),
        cached=("tokenscached",),
    ),
    TraceFormat(
        name="agentic-coding",
        prompt=("in",),
        decode=("out",),
        needs=("hashids", "t"),
        arrival=("t",),
        session=("id", "sessionid"),
        cached=("hashids",),
        unit="s",
    ),
    TraceFormat(
        name="aibrix",
        prompt=("promptlength",),
        decode=("outputlength",),
        needs=("timestamp",),
        level="requests",
        arrival=("timestamp",),
        unit="ms",
    ),
    TraceFormat(
        name="evalscope",
        prompt=("prompttokens",),
        decode=("completiontokens",),
        needs=("success", "starttime"),
        arrival=("starttime",),
        failed=("success",),
        unit="s",
    ),
    TraceFormat(
        name="litellm",
        prompt=("prompttokens",),
        decode=("completiontokens",),
        needs=("starttime",),
        arrival=("starttime",),
        session=("sessionid", "traceid", "enduser", "user"),
        failed=("status", "errorstr"),
        cached=OPENAI_CACHED,
    ),
    TraceFormat(
        name="anthropic",
        prompt=("usage.inputtokens",),
        decode=("usage.outputtokens",),
        needs=("usage.cachereadinputtokens",),
        arrival=("timestamp", "createdat", "created"),
        session=SESSIONS,
        added_to_prompt=("usage.cachereadinputtokens", "usage.cachecreationinputtokens"),
        cached=("usage.cachereadinputtokens",),
    ),
    TraceFormat(
        name="anthropic-table",
        prompt=("inputtokens",),
        decode=("outputtokens",),
        needs=("cachereadinputtokens",),
        arrival=("timestamp", "createdat", "created", "starttime"),
        session=SESSIONS,
        added_to_prompt=("cachereadinputtokens", "cachecreationinputtokens"),
        cached=("cachereadinputtokens",),
    ),
    TraceFormat(
        name="openai",
        prompt=("usage.prompttokens", "usage.inputtokens"),
        decode=("usage.completiontokens", "usage.outputtokens"),
        arrival=("created", "createdat", "timestamp", "starttime"),
        session=SESSIONS,
        failed=("error",),
        cached=OPENAI_CACHED,
    ),
    TraceFormat(
        name="generic",
        prompt=PROMPTS,
        decode=DECODES,
        arrival=ARRIVALS,
        session=SESSIONS,
        cached=(*OPENAI_CACHED, "hashids", "cachedtokens", "numcachedtokens"),
    ),
)
"""From the most telling to the least: the first whose columns are all there is taken."""

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
ALL_WORDS = [*sorted(LIKELY_WORDS["prompt"] | LIKELY_WORDS["decode"] | MEASURE_WORDS), "total"]


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
        words = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", part)}
        if not is_sure:  # misspelt words are likely what they look like
            words = {(difflib.get_close_matches(w, ALL_WORDS, 1, 0.8) or [w])[0] for w in words}
        measures = words & (MEASURE_WORDS if is_sure else MEASURE_WORDS | {"total"})
        meanings = words - measures
        for side, sure in (("prompt", PROMPT_WORDS), ("decode", DECODE_WORDS)):
            known = sure if is_sure else LIKELY_WORDS[side]
            if measures and len(meanings) == 1 and meanings <= known:
                return side
    return ""
