"""Show a result in three planes and 3D, in the browser.

  diffseglung view out --ct ct.nii.gz
  diffseglung view ct.nii.gz

The page is served by this machine to this machine only; no data leave it. Ctrl-C ends it.
"""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path

from diffseglung.cli.options import add_shared


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `view`."""
    parser.add_argument("path", type=Path, help="output folder of `diffseglung segment`, or a scan alone (any format)")
    parser.add_argument("--ct", type=Path, metavar="CT", help="the CT of the result (any format)")
    add_shared(parser, "series")
    parser.add_argument("--port", type=int, default=0, metavar="N", help="port (default: any free one)")
    parser.add_argument("--no-browser", dest="browser", action="store_false", help="print the address only")


def run(args: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C."""
    from diffseglung.viewer.contents import gather
    from diffseglung.viewer.server import ViewServer

    contents = gather(args.path, args.ct, series_uid=args.series)
    with ViewServer(contents, args.port) as server:
        if not args.quiet:
            if contents.ct is None:
                print("showing the label map only; add --ct CT to see the scan below it")
            print("Ctrl-C ends the view at")
        if not (args.quiet and args.browser):
            print(server.address, flush=True)
        if args.browser:
            open_browser(server.address)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
    return 0


def open_browser(address: str) -> None:
    """In the background, because a text browser would block the server."""
    import threading
    import webbrowser

    threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
