"""A token that the server's tools made, verified by PyJWT.

Usage: verify_token.py TOKEN SECRET
"""

import sys
import time

import jwt

token, secret = sys.argv[1:]
claims = jwt.decode(token, secret, algorithms=["HS256"])
assert claims["user_id"] == "ada" and claims["sub"] == "ada", claims
assert claims["permissions"] == ["workflow:read", "pool:read"], claims
assert claims["iat"] <= time.time() < claims["exp"] <= claims["iat"] + 60, claims
try:
    jwt.decode(token, secret + "x", algorithms=["HS256"])
    raise AssertionError("any secret verifies it")
except jwt.InvalidSignatureError:
    pass
print("ok")
