"""The routes of `urm serve` on vLLM's own server, and the token before all that it answers."""

import asyncio
import json
import os
import uuid
from argparse import Namespace
from dataclasses import asdict, replace
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.types import ASGIApp, Receive, Scope, Send
from torch import Tensor

from urm_hf.data.chat_templates import load_chat_tokenizer
from urm_hf.data.encoder import positions_of
from urm_hf.serving.access import Guard, check_host, read_token
from urm_hf.serving.app import build_routes, write_refusal
from urm_hf.serving.refusals import JSONAnswer, Refusal
from urm_hf.serving.settings import Settings
from urm_hf.serving.state import Readiness, check_reference, describe_model
from urm_hf.serving.vllm.engine_scorer import EngineScorer
from urm_hf.serving.vllm.engine_service import EngineService
from urm_hf.serving.vllm.served import ServedModel, read_served_model

SETTINGS_VARIABLE = "URM_VLLM_SETTINGS"  # what `urm serve` was told, as JSON; never the token
TOKEN_FILE_VARIABLE = "URM_SERVE_TOKEN_FILE"
OPEN = ("/health", "/ready", "/ping")  # for probes


def write_settings(settings: Settings, no_auth: bool = False) -> str:
    """Settings without the token, for the environment of vLLM."""
    told = {name: value for name, value in asdict(settings).items() if name != "token"}
    return json.dumps(told | {"no_auth": no_auth})


def read_settings(name: str) -> tuple[Settings, bool]:
    """
    What `write_settings` wrote, with the token; of a vLLM that was started otherwise the defaults.

    Args:
        name (`str`): what the model is called there.

    Raises:
        ValueError: the token or the variable are damaged.
    """
    told = json.loads(os.environ.get(SETTINGS_VARIABLE, "{}"))
    no_auth = bool(told.pop("no_auth", False))
    token = read_token(os.environ.get(TOKEN_FILE_VARIABLE))
    return Settings(**({"name": name} | told | {"token": token})), no_auth


class TokenMiddleware:
    """Asks for the token before any route, vLLM's own included: its `--api-key` guards only some of them."""

    def __init__(self, app: ASGIApp, token: str | None):
        self.app, self.guard = app, Guard(token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send):
        if scope["type"] == "websocket" and self.guard.token is not None:
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] == "http" and scope["path"] not in OPEN:
            try:
                self.guard(Request(scope))
            except Refusal as refusal:
                response = JSONAnswer(refusal.body(), refusal.status, headers=refusal.headers)
                await response(scope, receive, send)
                return
        await self.app(scope, receive, send)


class RewardRoutes:
    """An endpoint plugin of vLLM."""

    name = "urm"
    required_tasks = ("classify",)

    def __init__(self):
        self.engine: Any = None
        self.service: EngineService | None = None
        self.readiness: Readiness | None = None

    def attach_router(self, app: FastAPI):
        """
        Adds the routes; those of vLLM with the same path are replaced.

        Raises:
            ValueError: the server would answer other machines without a token, or the model is none of ours.
        """
        args: Namespace = app.state.args
        names = args.served_model_name or [args.model]
        settings, no_auth = read_settings(os.path.basename(os.path.normpath(str(names[0]))))
        check_host(args.host or "0.0.0.0", settings.token, no_auth)  # vLLM's default is every address
        served = read_served_model(args.model, args.revision)
        place, access = served.tokenizer_place
        tokenizer = load_chat_tokenizer(place, **access.kwargs())
        length = args.max_model_len if isinstance(args.max_model_len, int) else positions_of(served.configs[0])
        scorer = EngineScorer(served, tokenizer, self.ask, length)
        self.service = EngineService(scorer, settings)
        self.readiness = Readiness("the model is still being loaded.", self.service)
        app.add_exception_handler(Refusal, write_refusal)
        if settings.token is not None:
            app.add_middleware(TokenMiddleware, token=settings.token)
        guarded = build_routes(self.service)
        self._add_state(guarded)
        # as routes of the application itself: vLLM replaces by these, and would not look into a router
        app.router.routes.extend(guarded.routes)

    def _add_state(self, router: APIRouter):
        service, readiness = self.service, self.readiness
        assert service is not None and readiness is not None

        async def ready() -> Response:
            trouble = readiness.trouble
            told = {"status": "ready"} if trouble is None else {"status": "not ready", "error": {"message": trouble}}
            return JSONAnswer(told, 200 if trouble is None else 503)

        async def models() -> Response:
            return JSONAnswer({"object": "list", "data": [describe_model(service, readiness.started)]})

        async def metrics() -> Response:
            return Response(service.metrics.write(), media_type=CONTENT_TYPE_LATEST)

        opened = APIRouter()
        opened.add_api_route("/ready", ready, response_model=None)
        router.add_api_route("/v1/models", models, response_model=None)
        router.add_api_route("/urm/metrics", metrics, response_model=None)  # vLLM's own are at /metrics
        router.routes.extend(opened.routes)

    async def init_state(self, engine_client: Any, state: Any, args: Namespace):
        """Scores the reference conversations with the engine, before the server answers anybody."""
        service, readiness = self.service, self.readiness
        assert service is not None and readiness is not None
        self.engine = engine_client
        if engine_client is None:  # a server that only renders prompts
            return
        longest = engine_client.vllm_config.model_config.max_model_len
        service.scorer.loop = asyncio.get_running_loop()
        if service.encoder.max_length is None or longest < service.encoder.max_length:
            service.scorer.encoder = service.encoder = replace(service.encoder, max_length=longest)
        folder = args.model if os.path.isdir(args.model) else None
        await asyncio.to_thread(service.learn_fields)
        scorer: Any = service.scorer  # with the interface of `RewardScorer`
        readiness.trouble_of_model = await asyncio.to_thread(check_reference, scorer, folder)

    async def ask(self, ids: list[int], member: int) -> Tensor:
        """The engine's vector for token ids; of adapters that of a member."""
        from vllm import PoolingParams
        from vllm.inputs import TokensPrompt

        assert self.service is not None
        params = PoolingParams(task="classify", use_activation=False, extra_kwargs={"member": member})
        adapter = build_adapter_request(self.service.scorer.served, member)
        prompt, final = TokensPrompt(prompt_token_ids=ids), None
        async for output in self.engine.encode(prompt, params, f"urm-{uuid.uuid4()}", lora_request=adapter):
            final = output
        assert final is not None
        return final.outputs.data


def build_adapter_request(served: ServedModel, member: int) -> Any:
    """vLLM's request for a member's adapter, None where members are none."""
    if not served.has_adapters:
        return None
    from vllm.lora.request import LoRARequest

    folder = os.path.dirname(next(iter(served.sources[member].weight_files().values())))
    return LoRARequest(f"member-{member}", member + 1, folder)
