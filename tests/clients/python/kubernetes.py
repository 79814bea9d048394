"""Looks at what schemas do not say of the manifests in a folder: that they refer to each other by names that are there."""

import pathlib
import sys

import yaml

folder = pathlib.Path(sys.argv[1])
listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
others = {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"}
assert set(listed) == others, (listed, others)
by_kind = {}
for name in listed:
    document = yaml.safe_load((folder / name).read_text())
    by_kind[document["kind"]] = document
deployment = by_kind["Deployment"]["spec"]
pod = deployment["template"]
labels = pod["metadata"]["labels"]
(container,) = pod["spec"]["containers"]
ports = {port["name"] for port in container["ports"]}


def selects(selector, labels):
    return selector.items() <= labels.items()


assert selects(deployment["selector"]["matchLabels"], labels)
assert selects(by_kind["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"], labels)
service = by_kind["Service"]
assert selects(service["spec"]["selector"], labels)
assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
monitor = by_kind["ServiceMonitor"]["spec"]
assert selects(monitor["selector"]["matchLabels"], service["metadata"]["labels"])
assert {end["port"] for end in monitor["endpoints"]} <= {port["name"] for port in service["spec"]["ports"]}
for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
    assert container[probe]["httpGet"]["port"] in ports
assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
assert container["livenessProbe"]["httpGet"]["path"] == "/health"
environment = {variable["name"]: variable.get("value") for variable in container["env"]}
drain = sum(float(environment.get(f"MAHAVISHNU_DRAIN_{name}") or default) for name, default in (("NOTICE", 0), ("WINDOW", 0), ("TIMEOUT", 5)))
assert pod["spec"]["terminationGracePeriodSeconds"] >= drain + 5, drain
print("ok")
