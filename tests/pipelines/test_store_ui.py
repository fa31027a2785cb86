"""`pave store ui`: the pages of a real store, and one walk through them in a browser."""

import io
import re
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from chromium_page import chromium_page, pave_serving
from PIL import Image
from starlette.testclient import TestClient

from pipelines.store_app import store_app
from pipelines.store_pages import ROWS_ON_A_PAGE
from pipelines.store_pictures import principal_components
from store import FailureRow, Features, FeatureSetRecord, FeatureStore, SampleRow, TensorLayout

SET = "tiny/audio/f00d"
ODD = "<script>alert(1)</script>/a b&c?.mp4"
MANY = 130


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two feature sets in three commits; a sample with an odd name, one that failed, one that was not tried."""
    store = FeatureStore.open(tmp_path_factory.mktemp("ui") / "store")
    names = [f"clip-{number:03d}.mp4" for number in range(MANY)]
    store.add_samples(
        [SampleRow("tiny", name, "train", "{}") for name in (*names, ODD, "broken.mp4", "new.mp4")]
    )
    rng = np.random.default_rng(0)

    def write(channel: str, tokens: int, samples: list[str], clock: bool = True) -> None:
        layout = (TensorLayout("values", tokens, 16, "bfloat16"),)
        record = FeatureSetRecord(
            "tiny", channel, "toy", "1", "f00d", layout, 1.0, "CC-BY-NC-SA 4.0", {"k": 1}
        )
        store.register(record)
        with store.writer(record) as part:
            for name in samples:
                walk = np.cumsum(rng.normal(size=(12, tokens, 16)), axis=0).astype(layout[0].numpy_dtype)
                times = np.arange(12.0) + 1 if clock else np.full(12, np.nan)
                part.write(name, Features(walk, times), duration=13.0)
        store.commit([part.close()])

    write("audio", 1, names)
    store.tag("first")
    write("audio", 1, [ODD])
    write("depth3d", 5, [ODD], clock=False)
    store.record_failures(
        [
            FailureRow(
                "broken.mp4",
                "tiny",
                "audio",
                "f00d",
                "MediaError",
                "broken.mp4 is cut off; copy it again",
                True,
            )
        ]
    )
    assert store.location.folder is not None
    return store.location.folder


@pytest.fixture(scope="module")
def client(folder: Path) -> TestClient:
    return TestClient(store_app(FeatureStore.open(folder, create=False)), "http://127.0.0.1")


def test_feature_sets_are_listed_with_coverage_and_licence(client: TestClient) -> None:
    text = client.get("/").text
    assert SET in text
    assert f"{(MANY + 1) / (MANY + 3):.1%}" in text
    assert "CC-BY-NC-SA 4.0" in text
    of_first = client.get("/?version=first").text
    assert f"{MANY / (MANY + 3):.1%}" in of_first
    assert "/failures?version=first" in of_first  # links keep the version


def test_samples_are_paged_and_searched(client: TestClient) -> None:
    first = client.get(f"/set?name={SET}").text
    assert len(re.findall(r"clip-\d+\.mp4</a>", first)) == ROWS_ON_A_PAGE - 1  # the odd one sorts before them
    (after,) = re.findall(r'<a href="([^"]+)">next</a>', first)
    rest = client.get(after.replace("&amp;", "&")).text
    assert len(re.findall(r"clip-\d+\.mp4</a>", rest)) == MANY + 1 - ROWS_ON_A_PAGE
    found = client.get(f"/set?name={SET}&search=clip-07").text
    assert len(re.findall(r"clip-07\d\.mp4</a>", found)) == 10
    assert "No sample." in client.get(f"/set?name={SET}&search=' OR 1=1 --").text


def test_a_sample_with_an_odd_name_is_shown_and_nothing_of_it_runs(client: TestClient) -> None:
    for page in (f"/set?name={SET}", f"/sample?set={SET}&id={quote(ODD)}", "/failures"):
        response = client.get(page)
        assert response.status_code == 200
        assert "<script>" not in response.text
        assert "default-src 'none'" in response.headers["content-security-policy"]
    text = client.get(f"/sample?set={SET}&id={quote(ODD)}").text
    assert "12 x 1 x 16" in text
    assert "tiny/depth3d/f00d" in text  # where else it is
    for source in re.findall(r'<img src="([^"]+)"', text):
        picture = client.get(source.replace("&amp;", "&"))
        assert picture.headers["content-type"] == "image/png"
        assert np.asarray(Image.open(io.BytesIO(picture.content))).std() > 5
    no_clock = client.get(f"/picture?set=tiny/depth3d/f00d&id={quote(ODD)}&kind=norm")
    assert no_clock.status_code == 200


def test_versions_differences_and_failures(client: TestClient) -> None:
    assert "first" in client.get("/versions").text
    changed = client.get("/diff?before=first&after=3").text
    assert "tiny/depth3d/f00d" in changed
    assert changed.count("added") >= 2
    assert "Nothing changed." in client.get("/diff?before=3&after=3").text
    failed = client.get("/failures").text
    assert "broken.mp4 is cut off; copy it again" in failed
    assert "new.mp4" not in failed  # it was not tried


@pytest.mark.parametrize(
    ("page", "status", "words"),
    [
        ("/set", 400, "lacks &#39;name&#39;"),
        ("/set?name=tiny", 400, "names no feature set"),
        ("/set?name=tiny/smell/f00d", 404, "smell"),
        (f"/set?name={SET}&from=-1", 400, "whole number"),
        (f"/sample?set={SET}&id=nobody", 404, "no features of"),
        (f"/picture?set={SET}&id=clip-000.mp4&kind=../x", 400, "no such picture"),
        ("/?version=99", 404, "99"),
        ("/?version=none", 404, "none"),
        ("/diff?before=1", 400, "lacks &#39;after&#39;"),
        ("/../../etc/passwd", 404, "Not Found"),
    ],
)
def test_what_is_not_there_is_said_in_a_sentence(
    client: TestClient, page: str, status: int, words: str
) -> None:
    response = client.get(page)
    assert response.status_code == status
    assert words in response.text
    assert "Traceback" not in response.text


def test_nothing_can_be_changed_and_no_other_site_can_ask(client: TestClient) -> None:
    assert client.post("/").status_code == 405
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400


def test_principal_components_are_those_of_a_plane() -> None:
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(50, 2)) * [3, 1]
    basis = np.linalg.qr(rng.normal(size=(8, 2)))[0]
    places, shares = principal_components(plane @ basis.T + 7)
    assert np.isclose(shares.sum(), 1)
    centred = plane - plane.mean(axis=0)
    distances = [np.linalg.norm(points[:, None] - points, axis=-1) for points in (places, centred)]
    assert np.allclose(*distances)
    assert principal_components(np.ones((1, 1)))[0].tolist() == [[0, 0]]


def test_a_walk_through_the_pages_in_a_browser(folder: Path) -> None:
    with chromium_page() as browsed, pave_serving("store", "ui", "--store", folder) as address:
        page = browsed.page
        page.goto(address)
        browsed.screenshot("store-feature-sets")
        page.click("text=tiny/depth3d/f00d")
        page.click(f"text={ODD}")
        page.wait_for_load_state("networkidle")
        widths = page.eval_on_selector_all("img", "pictures => pictures.map(one => one.naturalWidth)")
        assert len(widths) == 2
        assert min(widths) > 500
        browsed.screenshot("store-sample")
        page.click("text=Versions")
        browsed.screenshot("store-versions")
        page.click("button")
        assert "Version 2 to 3" in page.inner_text("h1")
        page.click("text=Failures")
        assert "copy it again" in page.inner_text("body")
        browsed.screenshot("store-failures")
        page.click("text=Feature sets")
        page.click(f"text={SET}")
        browsed.screenshot("store-set")
        assert not browsed.errors
        assert not browsed.elsewhere
