"""The demo's program: proton collisions with Pythia, jets with FastJet, a ROOT file with uproot. Runs from the mount."""

import os
import pathlib
import sys

import awkward
import boost_histogram
import fastjet
import numpy
import pythia8mc
import uproot


def main(count: int, directory: str) -> None:
    data = pathlib.Path(pythia8mc.__file__).parent / "share" / "Pythia8" / "xmldoc"
    os.environ["PYTHIA8DATA"] = str(data)
    generator = pythia8mc.Pythia("", False)
    for setting in ("Print:quiet = on", "Beams:eCM = 13000.", "HardQCD:all = on", "PhaseSpace:pTHatMin = 100."):
        generator.readString(setting)
    if not generator.init():
        sys.exit(f"Pythia does not start with its data in {data}")
    spectrum = boost_histogram.Histogram(boost_histogram.axis.Regular(20, 0, 500))
    particles = []
    for _ in range(count):
        if not generator.next():
            continue
        final = [p for p in generator.event if p.isFinal()]
        particles.append([{"px": p.px(), "py": p.py(), "pz": p.pz(), "E": p.e()} for p in final])
        jets = fastjet.ClusterSequence(
            [fastjet.PseudoJet(p.px(), p.py(), p.pz(), p.e()) for p in final],
            fastjet.JetDefinition(fastjet.antikt_algorithm, 0.4),
        ).inclusive_jets(20.0)
        spectrum.fill(numpy.array([jet.pt() for jet in jets]))
    events = awkward.Array(particles)
    path = f"{directory}/events.root"
    with uproot.recreate(path) as file:
        file["jet_pt"] = spectrum.to_numpy()
        file.mktree("events", {"n": "int64"})
        file["events"].extend({"n": awkward.to_numpy(awkward.num(events, axis=1))})
    with uproot.open(path) as file:
        counted = file["events"]["n"].array()
        print(
            f"   {len(counted)} events, {int(awkward.sum(counted))} particles, {int(spectrum.sum())} jets over 20 GeV; "
            f"interpreter and packages from {sys.prefix}"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
