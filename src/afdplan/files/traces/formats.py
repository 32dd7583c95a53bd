"""By which column names is each trace format known, and what do they mean?"""

from __future__ import annotations

from dataclasses import dataclass

from afdplan.files.traces.names import ARRIVALS, DECODES, PROMPTS, SESSIONS

__all__ = ["FAILURE_SIGNS", "FORMATS", "OTHER_KINDS", "SUCCESS_FLAGS", "UNITS", "TraceFormat"]

UNITS = ("s", "ms", "us", "ns", "iso")


SUCCESS_FLAGS = (
    "success", "issuccess", "successful", "issuccessful", "succeeded", "ok", "isok", "completed",
    "iscompleted", "complete", "iscomplete", "finished", "isfinished",
)  # fmt: skip
"""Columns that say by "false" that a request failed."""
FAILURE_SIGNS = (
    "errors", "error", "errormessage", "errormsg", "errorstr", "errorcode", "status", "statuscode",
    "wascancelled", "state", "finishreason", "finishreason.type", "finishreasons", "httpstatus",
    "httpstatuscode", "responsestatus",
    "responsecode", "httpcode", "outcome", "result", "exception", "exceptiontype",
    "exceptionclass", "exceptionmessage", "errortype", "errorclass", "errorreason",
    "failurereason", "stopreason", "stopreason.type", "requeststatus", "completionstatus",
    "responseflags", "grpcstatus", "grpcstatuscode",
    *SUCCESS_FLAGS,
    "failed", "isfailed", "iserror", "haserror", "erroronresponse", "aborted", "cancelled",
    "canceled",
)  # fmt: skip
"""Columns that say so in any format: by "true", a text or a code."""


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
        a row with something in a `failed` column, or one of `FAILURE_SIGNS`, is left out.
    kind
        Columns that say what a record is: those of `OTHER_KINDS` are no requests.
    request
        Columns that name the request: two records with one name are one request.
    span, span_parent
        Columns that name a span and the one around it, which may sum up what is inside.
    answered
        Columns that say of a request that a cache of answers, and no engine, answered it.
    warm
        Columns that say of a request that a benchmark sent it before it began to measure.
    model
        Columns that name the model that answered.
    apart
        Columns of parts of the tokens that its lengths do not count; ``*`` for all parts.
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
    failed: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()
    cached: tuple[str, ...] = ()
    unit: str = ""
    kind: tuple[str, ...] = (
        "genai.operation.name", "openinference.span.kind", "traceloop.span.kind", "spankind",
        "calltype", "runtype", "benchmarkphase", "span.kind",
        "spanattributes.type", "ai.operationid",
    )  # fmt: skip
    request: tuple[str, ...] = (
        "requestid", "xrequestid", "rid", "reqid", "generationid", "responseid", "callid",
        "litellmcallid", "spanid", "observationid", "correlationid", "id",
    )  # fmt: skip
    span: tuple[str, ...] = ("context.spanid", "spanid", "runid")
    span_parent: tuple[str, ...] = ("parentspanid", "parentrunid", "parentid")
    answered: tuple[str, ...] = (
        "cachehit", "fromcache", "iscached", "servedfromcache", "responsecached", "cachestatus",
        "cached",
    )  # fmt: skip
    warm: tuple[str, ...] = ("iswarmup", "warmup", "phase", "runphase", "testphase")
    model: tuple[str, ...] = (
        "genai.request.model", "llm.modelname", "providedmodelname", "modelname", "modelid",
        "model",
    )  # fmt: skip


OTHER_KINDS = frozenset({
    "agent", "invokeagent", "createagent", "workflow", "invokeworkflow", "chain", "task", "tool",
    "executetool", "embedding", "embeddings", "aembedding", "retriever", "retrieval", "reranker",
    "rerank", "arerank", "guardrail", "evaluator", "span", "event", "warmup", "transcription",
    "atranscription", "imagegeneration", "aimagegeneration", "moderation", "amoderation", "plan",
    "function", "eval", "score", "aigeneratetext", "aistreamtext", "aigenerateobject",
    "aistreamobject", "aitoolcall", "aiembed", "aiembeddoembed",
})  # fmt: skip
"""Kinds of records that are no requests to a model that decodes, or sum up several."""
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
        unit="s",
    ),
    TraceFormat(
        name="opentelemetry",
        are_spans=True,
        prompt=("genai.usage.inputtokens", "genai.usage.prompttokens"),
        decode=("genai.usage.outputtokens", "genai.usage.completiontokens"),
        arrival=("starttimeunixnano", "starttime", "timestamp"),
        session=OPENTELEMETRY_SESSIONS,
        failed=("error.type", "status.code", "status.statuscode"),
        cached=("genai.usage.cacheread.inputtokens",),
    ),
    TraceFormat(
        name="openinference",
        are_spans=True,
        prompt=("llm.tokencount.prompt",),
        decode=("llm.tokencount.completion",),
        arrival=("starttime", "starttimeunixnano", "timestamp"),
        session=OPENTELEMETRY_SESSIONS,
        failed=("status.code", "status.statuscode"),
        cached=("llm.tokencount.promptdetails.cacheread",),
    ),
    TraceFormat(
        name="langfuse",
        are_spans=True,
        prompt=("usagedetails.input", "usage.input", "prompttokens", "inputusage"),
        decode=("usagedetails.output", "usage.output", "completiontokens", "outputusage"),
        needs=("starttime", "type"),
        arrival=("starttime",),
        session=("sessionid", "traceid"),
        failed=("level", "statusmessage.error"),
        apart=("*",),
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
        name="aiperf",
        prompt=("metrics.usageprompttokens.value", "metrics.inputsequencelength.value"),
        decode=("metrics.outputtokencount.value",),
        apart=("metrics.reasoningtokencount.value",),
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
        failed=("guidellmoutcome",),
        unit="s",
    ),
    TraceFormat(
        name="genai-bench",
        prompt=("numinputtokens",),
        decode=("numoutputtokens",),
        needs=("e2elatency",),
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
        unit="s",
    ),
    TraceFormat(
        name="llmperf",
        prompt=("numberinputtokens",),
        decode=("numberoutputtokens",),
        needs=("numbertotaltokens",),
    ),
    TraceFormat(
        name="openrouter",
        prompt=("nativetokensprompt", "tokensprompt"),
        decode=("nativetokenscompletion", "tokenscompletion"),
        needs=("generationid",),
        arrival=("createdat",),
        cached=("nativetokenscached", "tokenscached"),
    ),
    TraceFormat(
        name="agentic-coding",
        prompt=("in",),
        decode=("out",),
        needs=("hashids", "t"),
        arrival=("t",),
        session=("id", "sessionid"),
        request=(),
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
        unit="s",
    ),
    TraceFormat(
        name="litellm",
        prompt=("prompttokens",),
        decode=("completiontokens",),
        needs=("starttime",),
        arrival=("starttime",),
        session=("sessionid", "traceid", "enduser", "user"),
        cached=OPENAI_CACHED,
    ),
    TraceFormat(
        name="anthropic",
        prompt=("usage.inputtokens",),
        decode=("usage.outputtokens",),
        needs=("usage.cachereadinputtokens",),
        arrival=("timestamp", "createdat", "created"),
        session=SESSIONS,
        apart=(
            "usage.cachereadinputtokens",
            "usage.cachecreationinputtokens",
            "usage.cachewriteinputtokens",
        ),
        cached=("usage.cachereadinputtokens",),
    ),
    TraceFormat(
        name="anthropic-table",
        prompt=("inputtokens",),
        decode=("outputtokens",),
        needs=("cachereadinputtokens",),
        arrival=("timestamp", "createdat", "created", "starttime"),
        session=SESSIONS,
        apart=("cachereadinputtokens", "cachecreationinputtokens", "cachewriteinputtokens"),
        cached=("cachereadinputtokens",),
    ),
    TraceFormat(
        name="bedrock",
        prompt=("input.inputtokencount",),
        decode=("output.outputtokencount",),
        arrival=("timestamp",),
        apart=("input.cachereadinputtokencount", "input.cachewriteinputtokencount"),
        cached=("input.cachereadinputtokencount",),
    ),
    TraceFormat(
        name="cohere",
        prompt=("tokens.inputtokens",),
        decode=("tokens.outputtokens",),
        needs=("billedunits.inputtokens",),
        arrival=("createdat", "timestamp", "created"),
        session=SESSIONS,
        cached=("cachedtokens",),
    ),
    TraceFormat(
        name="gemini",
        prompt=("usagemetadata.prompttokencount", "prompttokencount"),
        decode=("usagemetadata.candidatestokencount", "candidatestokencount"),
        arrival=("createtime", "timestamp", "created", "starttime"),
        session=SESSIONS,
        apart=("thoughtstokencount", "toolusetokencount", "tooluseprompttokencount"),
        cached=("cachedcontenttokencount",),
    ),
    TraceFormat(
        name="openai",
        prompt=("usage.prompttokens", "usage.inputtokens"),
        decode=("usage.completiontokens", "usage.outputtokens"),
        arrival=("created", "createdat", "timestamp", "starttime"),
        session=SESSIONS,
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
