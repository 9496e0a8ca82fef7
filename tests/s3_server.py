"""An S3 server of moto's on a free port of this machine; prints the port. It takes one request at a time.

That is what makes its conditional writes atomic, as those of S3 are.
"""

from __future__ import annotations

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server


class Quiet(MotoRequestHandler):
    def log_request(self, *arguments: object) -> None:
        pass


if __name__ == "__main__":
    application = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, application, threaded=False, request_handler=Quiet)
    print(server.server_address[1], flush=True)
    server.serve_forever()
