"""Flower's SuperLink as a child that ends with its parent, which may be killed.

One thing is mended on the way. A board that was killed comes back with the same key, and this
release of the SuperLink refuses that key for as long as it runs, because the dead node still has
it. The key is the proof of who comes, so the dead node makes room here.
"""

from __future__ import annotations

import sys
from typing import Any

from flwr.proto.fleet_pb2 import CreateNodeRequest
from flwr.server import app as superlink
from flwr.server.superlink.fleet.grpc_rere.server_interceptor import AuthenticateServerInterceptor
from flwr.supercore.app_utils import start_parent_process_monitor


class Returning(AuthenticateServerInterceptor):  # type: ignore[misc]
    """Lets a board that has proved its key take the place of the node that had it."""

    def _wrap_method_handler(
        self, method_handler: Any, expected_node_id: int | None, node_public_key: bytes
    ) -> Any:
        """See AuthenticateServerInterceptor; the signature has been checked by now."""
        make_room = method_handler.unary_unary

        def call(request: Any, context: Any) -> Any:
            if isinstance(request, CreateNodeRequest) and expected_node_id is not None:
                self.state_factory.state().delete_node(expected_node_id)
            return make_room(request, context)

        return super()._wrap_method_handler(
            method_handler._replace(unary_unary=call), expected_node_id, node_public_key
        )


def main() -> None:
    """Run `flower-superlink` with the arguments behind the first, which is the parent's id."""
    start_parent_process_monitor(int(sys.argv[1]))
    sys.argv[1:] = sys.argv[2:]
    superlink.AuthenticateServerInterceptor = Returning
    superlink.run_superlink()


if __name__ == "__main__":
    main()
