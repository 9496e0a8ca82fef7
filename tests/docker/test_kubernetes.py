"""The manifests: Kubernetes' own kinds by its schemas, RayJob by a table of its fields, all by what is promised."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "docker/k8s"
MANIFESTS = {
    f"{path.stem}-{document['kind']}": document
    for path in sorted(FOLDER.glob("*.yaml"))
    if path.name != "kustomization.yaml"
    for document in yaml.safe_load_all(path.read_text())
}
KINDS = {document["kind"]: document for document in MANIFESTS.values()}
RAYJOB, CRONJOB = KINDS["RayJob"], KINDS["CronJob"]
VERSION = kubernetes_validate.latest_version()

# Fields of ray.io/v1 that are used, with their types; KubeRay's API reference, version 1.6. Its schema is not at hand.
FIELDS: dict[str, dict[str, type]] = {
    "spec": {
        "entrypoint": str,
        "submissionMode": str,
        "shutdownAfterJobFinishes": bool,
        "ttlSecondsAfterFinished": int,
        "activeDeadlineSeconds": int,
        "backoffLimit": int,
        "submitterConfig": dict,
        "submitterPodTemplate": dict,
        "rayClusterSpec": dict,
    },
    "rayClusterSpec": {"rayVersion": str, "authOptions": dict, "headGroupSpec": dict, "workerGroupSpecs": list},
    "authOptions": {"mode": str, "secretName": str},
    "submitterConfig": {"backoffLimit": int},
    "headGroupSpec": {"rayStartParams": dict, "template": dict},
    "workerGroupSpecs": {
        "groupName": str,
        "replicas": int,
        "minReplicas": int,
        "maxReplicas": int,
        "rayStartParams": dict,
        "template": dict,
    },
}


def _check_fields(name: str, value: Any) -> None:
    for item in value if isinstance(value, list) else [value]:
        for key, field in item.items():
            assert key in FIELDS[name], f"{name}.{key} is not a field"
            assert type(field) is FIELDS[name][key], f"{name}.{key} is no {FIELDS[name][key].__name__}"
            if key in FIELDS:
                _check_fields(key, field)


def _cluster() -> dict[str, Any]:
    return dict(RAYJOB["spec"]["rayClusterSpec"])


def _groups() -> list[dict[str, Any]]:
    return [_cluster()["headGroupSpec"], *_cluster()["workerGroupSpecs"]]


def _templates() -> Iterator[tuple[str, dict[str, Any]]]:
    yield "submitter", RAYJOB["spec"]["submitterPodTemplate"]
    yield from zip(("head", "worker"), (group["template"] for group in _groups()), strict=True)
    yield "nightly", CRONJOB["spec"]["jobTemplate"]["spec"]["template"]


TEMPLATES = dict(_templates())


@pytest.mark.parametrize("name", [name for name, document in MANIFESTS.items() if document["kind"] != "RayJob"])
def test_kubernetes_own_kinds_follow_its_schemas(name: str) -> None:
    kubernetes_validate.validate(MANIFESTS[name], VERSION, strict=True)


@pytest.mark.parametrize("name", TEMPLATES)
def test_pods_follow_the_schema(name: str) -> None:
    document = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": name}, "template": TEMPLATES[name]}
    kubernetes_validate.validate(document, VERSION, strict=True)


def test_rayjob_has_the_fields_of_its_kind() -> None:
    assert RAYJOB["apiVersion"] == "ray.io/v1"
    _check_fields("spec", RAYJOB["spec"])
    for group in _groups():
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_a_misspelt_field_would_be_found() -> None:
    with pytest.raises(AssertionError, match="shutdownAfterJobFinish is not a field"):
        _check_fields("spec", {"shutdownAfterJobFinish": True})
    with pytest.raises(AssertionError, match="ttlSecondsAfterFinished is no int"):
        _check_fields("spec", {"ttlSecondsAfterFinished": "60"})


@pytest.mark.parametrize("name", TEMPLATES)
def test_pods_are_not_root_keep_no_capability_and_say_what_they_need(name: str) -> None:
    pod = TEMPLATES[name]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] == (name == "nightly")
    for container in pod["containers"]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {"requests", "limits"} <= set(container["resources"])
        tag = container["image"].rpartition(":")[2]
        assert tag not in ("latest", container["image"])


def test_all_ray_containers_have_one_image() -> None:
    images = {c["image"] for name in ("submitter", "head", "worker") for c in TEMPLATES[name]["spec"]["containers"]}
    assert len(images) == 1


@pytest.mark.parametrize("name", ["head", "worker"])
def test_ray_pods_are_probed_and_take_secrets_by_reference(name: str) -> None:
    (container,) = TEMPLATES[name]["spec"]["containers"]
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)
    secret = [entry for entry in container["env"] if any(w in entry["name"] for w in ("TOKEN", "KEY", "TRACKING_URI"))]
    assert len(secret) == 4
    assert all(set(entry["valueFrom"]) == {"secretKeyRef"} for entry in secret)
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in TEMPLATES[name]["spec"]["volumes"]}


def test_ray_asks_for_its_token() -> None:
    assert _cluster()["authOptions"] == {"mode": "token", "secretName": "headlight-ray"}


def test_only_workers_may_run_on_nodes_that_go_away() -> None:
    keys = {toleration["key"] for toleration in TEMPLATES["worker"]["spec"]["tolerations"]}
    assert {"cloud.google.com/gke-spot", "kubernetes.azure.com/scalesetpriority", "karpenter.sh/capacity-type"} <= keys
    assert not any("tolerations" in TEMPLATES[name]["spec"] for name in ("submitter", "head", "nightly"))


def test_one_night_at_a_time_and_none_for_ever() -> None:
    spec = CRONJOB["spec"]
    job = spec["jobTemplate"]["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert job["backoffLimit"] == RAYJOB["spec"]["backoffLimit"] == 0
    assert job["activeDeadlineSeconds"] > RAYJOB["spec"]["activeDeadlineSeconds"] > 0
    assert RAYJOB["spec"]["shutdownAfterJobFinishes"] is True


def test_the_nightly_account_may_create_and_read_rayjobs_and_nothing_else() -> None:
    assert KINDS["Role"]["rules"] == [{"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["create", "get"]}]
    assert KINDS["RoleBinding"]["roleRef"]["name"] == KINDS["Role"]["metadata"]["name"]
    account = KINDS["ServiceAccount"]["metadata"]["name"]
    assert [subject["name"] for subject in KINDS["RoleBinding"]["subjects"]] == [account]
    assert TEMPLATES["nightly"]["spec"]["serviceAccountName"] == account


def test_the_network_policy_holds_for_every_pod_and_opens_the_dashboard_to_the_operator_only() -> None:
    policy = KINDS["NetworkPolicy"]["spec"]
    ours = policy["podSelector"]["matchLabels"]
    assert all(ours.items() <= template["metadata"]["labels"].items() for template in TEMPLATES.values())
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    own, operator = policy["ingress"]
    assert own == {"from": [{"podSelector": {"matchLabels": ours}}]}
    assert [port["port"] for port in operator["ports"]] == [8265]


def test_kustomization_lists_every_file() -> None:
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    (generated,) = kustomization["configMapGenerator"]
    listed = {*kustomization["resources"], *generated["files"], "kustomization.yaml"}
    assert listed == {path.name for path in FOLDER.iterdir() if path.is_file()}
    volume = TEMPLATES["nightly"]["spec"]["volumes"][0]
    assert volume["configMap"]["name"] == generated["name"]
