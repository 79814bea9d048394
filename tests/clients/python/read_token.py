"""Prints the claims of a token as JSON, if PyJWT takes it with this secret.

Usage: read_token.py TOKEN SECRET
"""

import json
import sys

import jwt

token, secret = sys.argv[1:]
print(json.dumps(jwt.decode(token, secret, algorithms=["HS256"])))
