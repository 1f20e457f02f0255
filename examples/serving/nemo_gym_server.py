"""
A resources server of NeMo Gym whose rewards `urm serve` gives; NeMo RL trains with it as with any other. Put it into
your NeMo Gym as `resources_servers/urm/app.py`, and name it in a configuration beside an agent's:

    urm:
      resources_servers:
        urm: {entrypoint: app.py, domain: other}

It hands on what an agent sends to /verify, and answers /seed_session and the rest as NeMo Gym's own servers do.
"""

import os

from nemo_gym.base_resources_server import BaseVerifyRequest, BaseVerifyResponse, SimpleResourcesServer
from nemo_gym.server_utils import get_response_json, raise_for_status, request
from pydantic import ConfigDict

URL = os.environ.get("URM_URL", "http://127.0.0.1:8770") + "/verify"


class RewardRequest(BaseVerifyRequest):
    model_config = ConfigDict(extra="allow")


class RewardResponse(BaseVerifyResponse):
    model_config = ConfigDict(extra="allow")


class RewardServer(SimpleResourcesServer):
    async def verify(self, body: RewardRequest) -> RewardResponse:
        answer = await request("POST", URL, json=body.model_dump(mode="json"))
        await raise_for_status(answer)
        return RewardResponse.model_validate(await get_response_json(answer))


if __name__ == "__main__":
    RewardServer.run_webserver()
