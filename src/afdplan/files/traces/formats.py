"""By which column names is each trace format known, and what do they mean?"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DECODES", "FORMATS", "PROMPTS", "UNITS", "TraceFormat"]

UNITS = ("s", "ms", "us", "ns", "iso")


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
    arrival, session, parent, failed
        Names of optional columns, best first. `parent` links a request to the one before it;
        a row with something in a `failed` column is left out.
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
    arrival: tuple[str, ...] = ()
    session: tuple[str, ...] = ()
    parent: tuple[str, ...] = ()
    failed: tuple[str, ...] = (
        "errors", "error", "errormessage", "errorstr", "success", "status", "statuscode",
    )  # fmt: skip
    added_to_prompt: tuple[str, ...] = ()
    cached: tuple[str, ...] = ()
    unit: str = ""


SESSIONS = (
    "sessionid", "session", "conversationid", "conversation", "threadid", "chatid", "traceid",
    "userid", "user", "enduser", "clientid",
)  # fmt: skip
ARRIVAL_NAMES = (
    "arrivedat", "arrivaltime", "arrivaltimestamp", "arrival", "arrivals", "timestamp",
    "timestamps", "requesttime", "requesttimestamp", "starttime", "starttimeunix",
    "requeststarttime", "created", "createdat", "datetime", "time", "ts",
)  # fmt: skip
UNIT_ENDINGS = ("", "s", "sec", "seconds", "ms", "millis", "us", "micros", "ns", "nano", "nanos")
ARRIVALS = tuple(name + unit for name in ARRIVAL_NAMES for unit in UNIT_ENDINGS)
PROMPTS = (
    "numprefilltokens", "prompttokens", "promptlen", "promptlength", "promptsize",
    "inputtokens", "inputlength", "inputlen", "inputlens", "inputtoks", "inputsize",
    "contexttokens", "contextlength", "contextlen", "requesttokens", "numprompttokens",
    "numinputtokens", "prefilltokens", "prefilllength", "prefilllen", "prefill", "isl", "plen",
    "promptlens", "nprompttokens", "ninputtokens", "prompt", "input",
)  # fmt: skip
DECODES = (
    "numdecodetokens", "decodetokens", "decodelen", "decodelength", "completiontokens",
    "outputtokens", "outputlength", "outputlen", "outputlens", "outputtoks", "outputsize",
    "generatedtokens", "generatedlength", "generationtokens", "generationlength",
    "generationlen", "responsetokens", "responselength", "responselen", "tokensize",
    "numoutputtokens", "numcompletiontokens", "numgeneratedtokens", "completionlength",
    "completionlen", "osl", "olen", "noutputtokens", "ngeneratedtokens", "newtokens", "decode",
    "output",
)  # fmt: skip
OPENAI_CACHED = ("prompttokensdetails.cachedtokens", "inputtokensdetails.cachedtokens")

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
        prompt=("genai.usage.inputtokens", "genai.usage.prompttokens"),
        decode=("genai.usage.outputtokens", "genai.usage.completiontokens"),
        arrival=("starttimeunixnano", "starttime", "timestamp"),
        session=("genai.conversation.id", "session.id", "traceid"),
        failed=("error.type", "status.code", "status.statuscode"),
        cached=("genai.usage.cacheread.inputtokens",),
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
