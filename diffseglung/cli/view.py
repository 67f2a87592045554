"""Look at a result in three planes and 3D, in the browser.

  diffseglung view out --ct ct.nii.gz
  diffseglung view ct.nii.gz

The page comes from this machine and can be reached from it alone; nothing leaves it. Ctrl-C ends it.
"""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `diffseglung view`."""
    parser.add_argument("path", type=Path, help="output folder of `diffseglung segment`, or a scan alone (any format)")
    parser.add_argument("--ct", type=Path, metavar="CT", help="the CT from which the result was made (any format)")
    parser.add_argument("--series", metavar="S", help="SeriesInstanceUID or number, where a folder holds several")
    parser.add_argument("--port", type=int, default=0, metavar="N", help="where the page is served (default: any free)")
    parser.add_argument("--no-browser", dest="browser", action="store_false", help="print the address only")


def run(args: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C."""
    from diffseglung.viewer.contents import gather
    from diffseglung.viewer.server import ViewServer

    contents = gather(args.path, args.ct, series_uid=args.series)
    with ViewServer(contents, args.port) as server:
        if not args.quiet:
            if contents.ct is None:
                print("the label map alone; add --ct CT to see the scan below it")
            print("Ctrl-C ends the view at")
        if not (args.quiet and args.browser):
            print(server.address, flush=True)
        if args.browser:
            open_browser(server.address)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
    return 0


def open_browser(address: str) -> None:
    """In the background: a browser of the terminal would hold the server up."""
    import threading
    import webbrowser

    threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
