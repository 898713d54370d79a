"""The page in the browser: a server for this machine (`_server.py`), what it tells the page, and the page itself.

`page/` holds the page as the browser gets it: one HTML file, its style, and its script in modules. There is no build
step, and nothing is loaded from elsewhere.
"""
