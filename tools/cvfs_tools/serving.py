"""cvfs-server serve."""

import contextlib
import sys

import click

from cvfs_server.web.server import serve as start_server
from cvfs_tools.running import write_line
from cvfs_tools.server_options import site_at, site_options


@click.command()
@click.option("--host", metavar="ADDRESS", default="127.0.0.1", show_default=True, help="Address to listen at")
@click.option("--port", metavar="N", type=int, default=8000, show_default=True, help="Port, 0 for any free one")
@site_options
def serve(*, host: str, port: int, root: str) -> None:
    """Serve all repositories of this site over HTTP, for trying out; a real site uses nginx or Apache."""
    server = start_server(site_at(root), host, port)
    write_line(f"cvfs-server: serving {server.url}")
    sys.stdout.flush()
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
    server.close()
