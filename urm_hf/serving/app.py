"""The application: routes, and what each request passes on its way to an answer."""

import logging
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from urm_hf.scoring.scorer import RewardScorer
from urm_hf.serving.access import Guard
from urm_hf.serving.bodies import TOO_DEEP, parse_body, read_body
from urm_hf.serving.protocols import PROTOCOLS
from urm_hf.serving.protocols.protocol import Answered, Protocol
from urm_hf.serving.refusals import ClientGone, JSONAnswer, Refusal
from urm_hf.serving.service import RewardService
from urm_hf.serving.settings import Settings
from urm_hf.serving.state import Readiness, check_reference, describe_model

logger = logging.getLogger(__name__)

READ_ONLY = ("/health", "/ready", "/v1/models", "/metrics")


def create_app(scorer: RewardScorer, settings: Settings | None = None, folder: str | None = None) -> FastAPI:
    """
    The server as an ASGI application.

    Args:
        scorer ([`RewardScorer`]): the model.
        settings ([`Settings`], *optional*): bounds, token, penalty.
        folder (`str`, *optional*): where the model was loaded from; its reference scores are what /ready asks for.

    Raises:
        ValueError: a measure that the model does not give.
    """
    service = RewardService(scorer, settings or Settings())
    service.learn_fields()
    readiness = Readiness(check_reference(scorer, folder), service)

    @asynccontextmanager
    async def run(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        service.close()

    # no pages of documentation: they load scripts from elsewhere, and would be open to whoever has no token
    app = FastAPI(title="urm serve", lifespan=run, docs_url=None, redoc_url=None, openapi_url=None)
    # behind a proxy with TLS the way to /reward from /reward/ would be one without
    app.router.redirect_slashes = False
    app.state.service, app.state.readiness = service, readiness
    app.add_exception_handler(Refusal, write_refusal)
    app.add_exception_handler(404, _write_unknown)
    app.add_exception_handler(405, _write_unknown)
    guarded = build_routes(service)
    _add_state(app, guarded, service, readiness)
    app.include_router(guarded)
    return app


def build_routes(service: RewardService) -> APIRouter:
    """The routes that score, each of which asks for the token."""
    guarded = APIRouter(dependencies=[Depends(_as_dependency(Guard(service.settings.token)))])
    for protocol in PROTOCOLS:
        for path in protocol.paths:
            guarded.add_api_route(path, _build_handler(protocol, service), methods=["POST"], response_model=None)
    return guarded


def _as_dependency(guard: Guard):
    async def check(request: Request):  # a coroutine: FastAPI would start a thread for a function, for every request
        guard(request)

    return check


def _add_state(app: FastAPI, guarded: APIRouter, service: RewardService, readiness: Readiness):
    """The routes that tell how the server is; two of them are for probes, which have no token."""

    async def health() -> Response:
        alive = service.is_alive
        return JSONAnswer({"status": "ok" if alive else "dead"}, 200 if alive else 503)

    async def ready() -> Response:
        trouble = readiness.trouble
        if trouble is not None:
            return JSONAnswer({"status": "not ready", "error": {"message": trouble, "row": None}}, 503)
        return JSONAnswer({"status": "ready"})

    async def models() -> Response:
        return JSONAnswer({"object": "list", "data": [describe_model(service, readiness.started)]})

    async def metrics() -> Response:
        return Response(service.metrics.write(), media_type=CONTENT_TYPE_LATEST)

    app.add_api_route("/health", health, response_model=None)
    app.add_api_route("/ready", ready, response_model=None)
    guarded.add_api_route("/v1/models", models, response_model=None)
    guarded.add_api_route("/metrics", metrics, response_model=None)


def _build_handler(protocol: Protocol, service: RewardService):
    async def handle(request: Request) -> Response:
        began, status = time.perf_counter(), 500
        try:
            response = await _answer(protocol, service, request)
            status = response.status_code
            return response
        except Refusal as refusal:
            status = refusal.status
            raise
        except ClientGone:
            status = 499  # as nginx calls it; nobody reads it
            return Response(status_code=status)
        except RecursionError:  # what could just be parsed can be too deep to be quoted or written again
            status = 400
            raise Refusal(status, TOO_DEEP) from None
        except Exception as error:
            # where it happened, and not what was said: that may quote the request
            place = traceback.extract_tb(error.__traceback__)[-1]
            logger.error("%s in %s:%s", type(error).__name__, place.filename, place.lineno)
            raise Refusal(500, "the server has a fault; it goes on, and its log says where.") from None
        finally:
            service.metrics.requests.labels(protocol.name, str(status)).inc()
            service.metrics.seconds.labels(protocol.name).observe(time.perf_counter() - began)

    return handle


async def _answer(protocol: Protocol, service: RewardService, request: Request) -> Response:
    settings = service.settings
    raw = await read_body(request, settings.max_body, settings.body_seconds)
    query = dict(request.query_params)
    asked, rows = await service.run(lambda: protocol.prepare(parse_body(raw), query, service))
    for kind in asked.repairs:
        service.metrics.repairs.labels(protocol.name, kind).inc()
    scores = await service.score(rows, request)
    answered = Answered(asked, service, scores, sum(map(len, rows.ids)))
    # a large answer takes as long to write as a large request to read
    content = await service.run(protocol.answer, answered) if len(scores) > 32 else protocol.answer(answered)
    return Response(content, media_type="application/json")


async def write_refusal(request: Request, error: Exception) -> Response:
    """What the sender of a request that is refused is told."""
    assert isinstance(error, Refusal)
    return JSONAnswer(error.body(), error.status, headers=error.headers)


async def _write_unknown(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    paths = ", ".join(path for protocol in PROTOCOLS for path in protocol.paths)
    told = f"there is no such route for {request.method}; POST goes to {paths}, GET to {', '.join(READ_ONLY)}."
    return JSONAnswer({"error": {"message": told, "row": None}}, status, headers=getattr(error, "headers", None))
