"""Reads a Compose file by an implementation of its specification; fails if it is none, or mounts what is not there."""

import pathlib
import sys

import compose_spec
import yaml

path = pathlib.Path(sys.argv[1])
text = path.read_text()
compose = compose_spec.PyCompose.from_yaml(text)
compose.validate()
document = yaml.safe_load(text)
for name, service in document["services"].items():
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        if source.startswith("."):
            assert (path.parent / source).exists(), f"{name}: {source} is not there"
        else:
            assert source in document["volumes"], f"{name}: {source} is no volume"
    if "build" in service:
        context = path.parent / service["build"]["context"]
        assert (context / service["build"]["dockerfile"]).is_file(), f"{name}: no Dockerfile"
print(*sorted(compose.service_names()))
