"""A series goes into a real Orthanc, is found, fetched and analysed, and its results are found again."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import trustme
from dicom_writer import SLICES, expected_voxels, make_slice, set_pixels, stored_values, write_enhanced
from orthanc import Orthanc
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless
from tls_relay import tls_relay

from spine_client import AsyncSpineClient, Pacs, SpineClient, Tls
from spine_client.cli import main
from spine_client.dicom import inspect_dicom, read_dicom
from spine_client.errors import AccessRefused, InputError, ProtocolError
from spine_client.sources import load
from spine_server import EmbeddedTriton

pytestmark = pytest.mark.slow  # `make test-pacs`


def _identify(image: pydicom.Dataset, study_uid: str) -> pydicom.Dataset:
    image.PatientID, image.PatientName, image.StudyInstanceUID = "P2", "C^D", study_uid
    image.FrameOfReferenceUID, image.SeriesInstanceUID = f"{study_uid}.1", f"{study_uid}.2"
    return image


@pytest.fixture
def study_uid() -> str:
    """A new study."""
    return f"2.25.{uuid.uuid4().int % 10**30}"


def test_uploaded_series_is_found_by_its_attributes(
    pacs: Pacs, uploaded: pydicom.Dataset, phantom_files
) -> None:
    found = pacs.find_series(PatientID=uploaded.PatientID, Modality="MR")
    assert [(entry.study_uid, entry.series_uid, entry.images) for entry in found] == [
        (uploaded.StudyInstanceUID, uploaded.SeriesInstanceUID, len(phantom_files))
    ]
    assert pacs.find_series(PatientID="nobody") == ()


def test_fetched_series_is_the_one_on_disk(pacs: Pacs, uploaded: pydicom.Dataset, phantom_files) -> None:
    fetched = load(pacs.series(uploaded.StudyInstanceUID, uploaded.SeriesInstanceUID))
    local = read_dicom(phantom_files)
    np.testing.assert_array_equal(fetched.voxels, local.voxels)
    np.testing.assert_array_equal(fetched.affine, local.affine)
    assert fetched.notices == ()


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless])
def test_series_that_the_pacs_keeps_compressed(pacs: Pacs, study_uid: str, syntax: str) -> None:
    images = [_identify(make_slice(i), study_uid) for i in range(SLICES)]
    for index, image in enumerate(images):
        set_pixels(image, np.tile(stored_values(index), (6, 7)))  # JPEG 2000 wants more than a few pixels
        if syntax != ExplicitVRLittleEndian:
            image.compress(syntax, generate_instance_uid=False)
    pacs.store(images)
    volume = load(pacs.series(study_uid, f"{study_uid}.2"))
    np.testing.assert_array_equal(volume.voxels, np.tile(expected_voxels(), (1, 6, 7)))


def test_enhanced_multi_frame_series(pacs: Pacs, study_uid: str, tmp_path: Path) -> None:
    write_enhanced(tmp_path / "e.dcm", lambda image: _identify(image, study_uid))
    pacs.store([pydicom.dcmread(tmp_path / "e.dcm")])
    np.testing.assert_array_equal(load(pacs.series(study_uid)).voxels, expected_voxels() + 7)


def test_real_dual_echo_series_is_split_as_on_disk(pacs: Pacs, shared_data: Path) -> None:
    files = sorted((shared_data / "sagittal_dicom").glob("*.dcm"))
    images = [pydicom.dcmread(path) for path in files]
    pacs.store(images)
    source = pacs.series(images[0].StudyInstanceUID)
    stacks, _ = inspect_dicom(source.fetch())
    assert [(stack.plane, len(stack.frames)) for stack in stacks] == [("sagittal", 35), ("sagittal", 35)]
    for stack in stacks:
        fetched, local = load(source, series=stack.stack_id), read_dicom(files, series=stack.stack_id)
        np.testing.assert_array_equal(fetched.voxels, local.voxels)
        np.testing.assert_array_equal(fetched.affine, local.affine)


def test_what_the_pacs_does_not_have(pacs: Pacs, study_uid: str) -> None:
    for series_uid in (None, "1.2.3"):
        with pytest.raises(InputError) as caught:
            load(pacs.series(study_uid, series_uid))
        assert caught.value.code == "no_such_series"


def test_wrong_password(running: Orthanc, study_uid: str) -> None:
    for secret in (None, "Basic eDp5"):
        with pytest.raises(AccessRefused):
            load(Pacs(running.root, authorization=secret, allow_plaintext=True).series(study_uid))


def test_object_that_the_pacs_refuses(pacs: Pacs) -> None:
    """Without any identity Orthanc answers 400."""
    image = make_slice(0)
    del image.SeriesInstanceUID
    image.SOPInstanceUID = ""
    with pytest.raises(ProtocolError, match="HTTP 400"):
        pacs.store([image])


def test_encrypted_connection(
    running: Orthanc, pacs: Pacs, tmp_path: Path, study_uid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The root given wins over the one in the environment, and a stranger's certificate is refused."""
    authority, stranger = trustme.CA(), trustme.CA()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    authority.cert_pem.write_to_path(tmp_path / "root.pem")
    stranger.cert_pem.write_to_path(tmp_path / "stranger.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "stranger.pem"))
    with tls_relay(running.port, tmp_path / "server.pem") as port:
        trusting = replace(
            pacs,
            url=f"dicomweb://localhost:{port}/dicom-web",
            tls=Tls(root_certificates=tmp_path / "root.pem"),
            allow_plaintext=False,
        )
        trusting.store([_identify(make_slice(i), study_uid) for i in range(SLICES)])
        np.testing.assert_array_equal(load(trusting.series(study_uid)).voxels, expected_voxels())
        for roots in (None, Tls(root_certificates=tmp_path / "stranger.pem")):
            with pytest.raises(AccessRefused, match="root certificate"):
                load(replace(trusting, tls=roots).series(study_uid))


def test_command_line_stores_what_it_found(
    server: EmbeddedTriton,
    running: Orthanc,
    pacs: Pacs,
    uploaded: pydicom.Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """`spine analyze dicomweb://… --store`, then both objects found, fetched and held to the files."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("TEST_PACS_AUTH", pacs.authorization_value() or "")
    study, series = uploaded.StudyInstanceUID, uploaded.SeriesInstanceUID
    address = f"dicomweb+{running.root}/studies/{study}/series/{series}"
    access = ["--pacs-auth-env", "TEST_PACS_AUTH", "--pacs-allow-plaintext"]
    command = ["analyze", address, "--store", *access, "--url", server.grpc_url, "--out", str(tmp_path),
               "--formats", "json", "nifti", "sr"]  # fmt: skip
    assert main(command) == 0
    output = capsys.readouterr()
    assert "stored" in output.err and "canal AP" in output.out
    for told in (output.out, output.err, caplog.text):
        assert study not in told and "Phantom^" not in told and "dicom-web" not in told
    kinds = {entry.modality: entry for entry in pacs.find_series(StudyInstanceUID=study)}
    assert sorted(kinds) == ["MR", "SEG", "SR"]
    segmentation = pacs.fetch(study, kinds["SEG"].series_uid)[0]
    report = pacs.fetch(study, kinds["SR"].series_uid)[0]
    _hold_to_files(segmentation, report, tmp_path)
    _hold_to_source(segmentation, report, uploaded)


def _hold_to_files(segmentation: pydicom.Dataset, report: pydicom.Dataset, folder: Path) -> None:
    """The PACS gives back the very objects that were written beside."""
    on_disk = pydicom.dcmread(folder / "segmentation.dcm"), pydicom.dcmread(folder / "measurements.dcm")
    assert segmentation.SOPInstanceUID == on_disk[0].SOPInstanceUID
    assert segmentation.PixelData == on_disk[0].PixelData
    assert report.SOPInstanceUID == on_disk[1].SOPInstanceUID
    assert report.ContentSequence == on_disk[1].ContentSequence
    discs = json.loads((folder / "report.json").read_text())["discs"]
    assert len(discs) > 3


def _hold_to_source(segmentation: pydicom.Dataset, report: pydicom.Dataset, source: pydicom.Dataset) -> None:
    for written in (segmentation, report):
        assert (written.PatientID, written.PatientName) == (source.PatientID, source.PatientName)
        assert written.StudyInstanceUID == source.StudyInstanceUID
    assert segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    referenced = {item.ReferencedSOPInstanceUID for one in evidence for item in one.ReferencedSOPSequence}
    assert segmentation.SOPInstanceUID in referenced


def test_storing_the_same_result_twice_leaves_one_of_each(
    server: EmbeddedTriton, pacs: Pacs, uploaded: pydicom.Dataset
) -> None:
    before = len(pacs.find_series(StudyInstanceUID=uploaded.StudyInstanceUID))

    async def analyze():
        async with AsyncSpineClient(server.grpc_url) as client:
            return await client.analyze(pacs.series(uploaded.StudyInstanceUID, uploaded.SeriesInstanceUID))

    result = asyncio.run(analyze())
    pacs.store_result(result)
    pacs.store_result(result)
    assert len(pacs.find_series(StudyInstanceUID=uploaded.StudyInstanceUID)) == before + 2


def test_folder_on_disk_is_stored_in_the_pacs_that_is_named(
    server: EmbeddedTriton, pacs: Pacs, running: Orthanc, phantom_files, monkeypatch, capsys
) -> None:
    monkeypatch.setenv("TEST_PACS_AUTH", pacs.authorization_value() or "")
    study = pydicom.dcmread(phantom_files[0]).StudyInstanceUID
    before = len(pacs.find_series(StudyInstanceUID=study))
    command = ["analyze", str(phantom_files[0].parent), "--url", server.grpc_url, "--store", running.root,
               "--pacs-auth-env", "TEST_PACS_AUTH", "--pacs-allow-plaintext"]  # fmt: skip
    assert main(command) == 0
    assert len(pacs.find_series(StudyInstanceUID=study)) == before + 2


def test_many_series_of_a_pacs_are_analysed_as_they_come(
    server: EmbeddedTriton, pacs: Pacs, uploaded: pydicom.Dataset
) -> None:
    good = pacs.series(uploaded.StudyInstanceUID, uploaded.SeriesInstanceUID)
    absent = pacs.series("1.2.3", "4.5.6")
    with SpineClient(server.grpc_url) as client:
        outcomes = {
            outcome.index: outcome for outcome in client.analyze_many([good, absent], max_concurrency=2)
        }
    assert outcomes[0].ok
    assert isinstance(outcomes[1].error, InputError)


def test_example_round_trip(
    server: EmbeddedTriton, pacs: Pacs, running: Orthanc, uploaded: pydicom.Dataset
) -> None:
    """`client/examples/dicomweb_round_trip.py` as it is."""
    script = Path(__file__).resolve().parents[2] / "client" / "examples" / "dicomweb_round_trip.py"
    before = len(pacs.find_series(StudyInstanceUID=uploaded.StudyInstanceUID))
    command = [sys.executable, str(script), running.root, "--patient", uploaded.PatientID,
               "--allow-plaintext", "--url", server.grpc_url]  # fmt: skip
    environment = {**os.environ, "PACS_AUTHORIZATION": pacs.authorization_value() or ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "series 1 of 1" in done.stdout and "stored" in done.stdout
    assert len(pacs.find_series(StudyInstanceUID=uploaded.StudyInstanceUID)) == before + 2
