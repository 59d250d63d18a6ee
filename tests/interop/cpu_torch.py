#!/usr/bin/env python3
"""Lets the registry's Linux torch wheel import on a CPU without 3 GB of CUDA libraries.

    python cpu_torch.py        with the Python that has torch installed; needs gcc and readelf

The wheel links cuBLAS, cuDNN and the like, though nothing on the CPU path calls them. For each such library
that is missing, an empty stand-in is put beside torch's own: it has the symbols that torch's libraries
ask for, and each of them answers 100, "no CUDA device". libcudart itself must be the real one (the
`nvidia-cuda-runtime` package, 2 MB): torch does call it, to learn that there is no GPU.
"""
import pathlib
import re
import subprocess
import sysconfig

PREFIXES = {
    "cublasLt": "libcublasLt.so", "cublas": "libcublas.so", "cudnn": "libcudnn.so", "_ZN4cudnn": "libcudnn.so",
    "nccl": "libnccl.so", "cuFile": "libcufile.so", "cufft": "libcufft.so", "curand": "libcurand.so",
    "cusolver": "libcusolver.so", "cusparseLt": "libcusparseLt.so", "cusparse": "libcusparse.so",
    "nvshmem": "libnvshmem_host.so", "nvrtc": "libnvrtc.so", "cupti": "libcupti.so",
}
REAL = ("libcudart.so", "libcuda.so")


def read(*arguments) -> str:
    return subprocess.run(["readelf", "-W", *map(str, arguments)], check=True, capture_output=True, text=True).stdout


def asked(folder: pathlib.Path) -> tuple[set[str], dict[str, set[tuple[str, str]]]]:
    """The CUDA libraries that torch's libraries need, and the (symbol, version) pairs asked of each."""
    needed, owners, undefined, defined = set(), {}, {}, set()
    for path in sorted(folder.glob("*.so*")):
        needed |= set(re.findall(r"NEEDED.*\[(lib(?:cu|nv|nccl)[^\]]*)\]", read("-d", path)))
        owner = None
        for line in read("-V", path).splitlines():
            if found := re.search(r"File: (\S+)", line):
                owner = found[1]
            elif owner and (found := re.search(r"Name: (\S+)\s+Flags", line)):
                owners[found[1]] = owner
        for line in read("--dyn-syms", path).splitlines():
            words = line.split()
            if len(words) < 8 or words[4] not in ("GLOBAL", "WEAK"):
                continue
            name, _, version = words[7].partition("@")
            if words[6] == "UND":
                undefined[name] = version.lstrip("@")
            else:
                defined.add(name)
    wanted = {library: set() for library in needed}
    for name, version in undefined.items():
        if version:
            if owners.get(version) in wanted:
                wanted[owners[version]].add((name, version))
        elif name not in defined:
            stem = next((stem for prefix, stem in PREFIXES.items() if name.startswith(prefix)), None)
            for library in needed:
                if stem and library.startswith(stem):
                    wanted[library].add((name, ""))
    return needed, wanted


def stand_in(path: pathlib.Path, symbols: set[tuple[str, str]]) -> None:
    source = "".join(f"long {name}(void) {{ return 100; }}\n" for name in sorted({name for name, _ in symbols}))
    versions = "".join(
        f"{version} {{ global: {' '.join(sorted(n + ';' for n, v in symbols if v == version))} }};\n"
        for version in sorted({version for _, version in symbols} - {""})
    )
    flags = []
    if versions:
        script = path.with_suffix(".map")
        script.write_text(versions)
        flags = [f"-Wl,--version-script={script}"]
    command = ["gcc", "-w", "-fno-builtin", "-shared", "-fPIC", "-x", "c", "-", f"-Wl,-soname,{path.name}", *flags,
               "-o", str(path)]
    subprocess.run(command, input=source or "void nothing(void) {}\n", text=True, check=True)
    if flags:
        script.unlink()


def main() -> None:
    packages = pathlib.Path(sysconfig.get_paths()["purelib"])
    folder = packages / "torch" / "lib"
    installed = {path.name for path in packages.glob("nvidia/**/lib*.so*")} | {p.name for p in folder.iterdir()}
    needed, wanted = asked(folder)
    for library in sorted(needed - installed):
        if not library.startswith(REAL):
            stand_in(folder / library, wanted[library])
            print(f"{library}: {len(wanted[library])} symbols")


if __name__ == "__main__":
    main()
