"""Asks for /health over TLS, trusting one file, as Python does by default.

Usage: tls_health.py URL CA_FILE. Prints ok, or why not.
"""

import ssl
import sys
import urllib.request

url, trusted = sys.argv[1:]
context = ssl.create_default_context(cafile=trusted)
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
try:
    with opener.open(url + "/health", timeout=10) as response:
        assert response.status == 200, response.status
    print("ok")
except Exception as error:
    print(f"refused: {error}")
