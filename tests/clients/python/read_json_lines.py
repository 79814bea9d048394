"""Lines of JSON as a strict reader takes them: no NaN, no name twice in an object, no half of a surrogate pair.

Usage: read_json_lines.py FILE COUNT
"""

import json
import sys


def constant(name):
    raise ValueError(f"{name} is not JSON")


def pairs(members):
    names = [name for name, _ in members]
    assert len(names) == len(set(names)), f"twice in one object: {names}"
    return dict(members)


path, count = sys.argv[1:]
with open(path, encoding="utf-8", newline="\n") as file:
    lines = file.read().split("\n")
assert lines.pop() == "", "the last line has no end"
for line in lines:
    value = json.loads(line, parse_constant=constant, object_pairs_hook=pairs)
    assert isinstance(value, (dict, list)), line
    json.dumps(value, ensure_ascii=False).encode()
assert len(lines) == int(count), f"{len(lines)} lines"
print("ok")
