"""The example applications, in this process and as others that a browser looks at."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from litestar import Litestar
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from lading import storages
from lading.backends.protocols import Signer, StorageBackend
from tests.examples.demo import Demo, OpenPage, count, on_bucket, running
from tests.services.moto import S3
from tests.services.radosgw import RadosGW

CHROMIUM = Path("/usr/bin/chromium")


class Example:
    """An example is imported once; it and others use the default registry, so each has that to itself while it runs."""

    module: ModuleType
    backends: list[StorageBackend]
    signer: Signer | None

    def __init__(self, name: str, data: Path, application: str | None = None) -> None:
        self.application = application or name
        signer, known = storages.signer, set(storages.registered_backends())
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LADING_EXAMPLE_DATA", str(data))
            patch.setenv("LADING_EXAMPLE_TRUST_ENDPOINT", "1")
            patch.delenv("LADING_EXAMPLE_STORE", raising=False)
            self.module = import_module(name)
        added = [key for key in storages.registered_backends() if key not in known]
        self.backends = [storages.get_backend(key) for key in added]
        self.signer, storages.signer = storages.signer, signer
        for key in added:
            storages.unregister_backend(key)

    @property
    def app(self) -> Litestar:
        app: Litestar = self.module.app
        return app

    @contextmanager
    def active(self) -> Iterator[None]:
        """Its backends and its signer are those of the default registry."""
        signer, storages.signer = storages.signer, self.signer
        for backend in self.backends:
            storages.register_backend(backend)
        try:
            yield
        finally:
            for backend in self.backends:
                storages.unregister_backend(backend.key)
            storages.signer = signer

    async def dispose(self) -> None:
        """Close the connections: advanced-alchemy does so for one configuration of a process."""
        await import_module(self.application).alchemy_config.get_engine().dispose()


@pytest.fixture(scope="session")
def documents_example(tmp_path_factory: pytest.TempPathFactory) -> Example:
    """Documents, with the page."""
    return Example("examples.documents.page", tmp_path_factory.mktemp("documents"), "examples.documents.app")


@pytest.fixture(scope="session")
def guide_example(tmp_path_factory: pytest.TempPathFactory) -> Example:
    """The rest of the guide."""
    return Example("examples.guide.app", tmp_path_factory.mktemp("guide"))


# a browser, and what it looks at


@pytest.fixture(scope="module")  # its event loop, which is that of the thread, must end before other tests' begin
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    if not CHROMIUM.exists():
        pytest.skip("Chromium is not installed: make services")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The example on local disk."""
    with running(tmp_path_factory.mktemp("page")) as demo:
        yield demo


@pytest.fixture(scope="session")
def on_moto(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The example on a bucket that lets any page send to it."""
    with running(tmp_path_factory.mktemp("page"), on_bucket(s3, s3.make_bucket())) as demo:
        yield demo


@pytest.fixture(scope="session")
def on_ceph(radosgw: RadosGW, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The example on a bucket that lets pages of its address send to it, and nobody without a good signature."""
    bucket = radosgw.make_bucket()
    with running(tmp_path_factory.mktemp("page"), on_bucket(radosgw, bucket)) as demo:
        rule = {
            "AllowedOrigins": [demo.address],
            "AllowedMethods": ["PUT"],
            "AllowedHeaders": ["content-type", "content-disposition"],
            "MaxAgeSeconds": 600,
        }
        radosgw.client().put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})
        yield demo


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Opens the page of an example without documents; an error in its script, or a breach of its policy, fails."""
    errors: list[str] = []
    contexts: list[BrowserContext] = []

    def failed(error: object) -> None:
        errors.append(str(error))

    def noticed(message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text:
            errors.append(message.text)

    def opened(demo: Demo, *, width: int = 1000, before: Callable[[Page], None] | None = None) -> Page:
        demo.clear()
        context = browser.new_context(locale="en-GB", timezone_id="UTC", viewport={"width": width, "height": 800})
        contexts.append(context)
        context.set_default_timeout(15_000)
        page = context.new_page()
        page.on("pageerror", failed)
        page.on("console", noticed)
        # Playwright asks the browser for the dialogs of files when somebody first waits for one, and not at once.
        page.on("filechooser", lambda chooser: None)
        if before is not None:
            before(page)
        page.goto(demo.address)
        expect(count(page)).to_have_text("0 files")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture
def page(open_page: OpenPage, local: Demo) -> Page:
    """The page on local disk."""
    return open_page(local)


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty seconds of noise: far more bytes than a browser reads ahead."""
    path = tmp_path_factory.mktemp("film") / "harbour.mp4"
    encoder = ["-c:v", "libx264", "-preset", "ultrafast", "-qp", "28", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    _ffmpeg("testsrc2=s=640x360:d=20:r=10,noise=alls=20:allf=t", *encoder, str(path))
    return path


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture of 320 by 200 pixels."""
    path = tmp_path_factory.mktemp("image") / "coast.png"
    _ffmpeg("mandelbrot=s=320x200", "-frames:v", "1", str(path))
    return path


def _ffmpeg(source: str, *arguments: str) -> None:
    try:
        subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", source, *arguments], check=True, timeout=120)
    except FileNotFoundError:
        pytest.skip("ffmpeg is not installed: make services")
