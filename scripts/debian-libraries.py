#!/usr/bin/env python3
"""Writes src/base/debian/libraries.txt: which Debian package has a library that wheels usually need, in each suite.

    scripts/debian-libraries.py [MIRROR]     # needs the network; a look at the difference before it is committed

What packages have comes from Debian's own index of contents, for both processors. A library is left out where they have
it in packages of different names. The mirror is the public one where none is named.
"""

import gzip
import sys
import urllib.request
from pathlib import Path

TARGET = Path(__file__).parent.parent / "src/base/debian/libraries.txt"

SUITES = ["bullseye", "bookworm", "trixie"]

ARCHITECTURES = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}

# What wheels on the index expect of the system: what they are not allowed to bring (PEP 600), what is too large, what
# belongs to the display or to devices, and what their authors forgot.
LIBRARIES = """
libgomp.so.1 libomp.so.5 libtbb.so.12 libtbb.so.2 libatomic.so.1 libquadmath.so.0 libgfortran.so.5 libgfortran.so.3
libstdc++.so.6 libgcc_s.so.1 libz.so.1 libbz2.so.1.0 liblzma.so.5 libzstd.so.1 liblz4.so.1 libsnappy.so.1
libGL.so.1 libEGL.so.1 libGLX.so.0 libOpenGL.so.0 libGLU.so.1 libGLESv2.so.2 libgbm.so.1 libdrm.so.2 libOSMesa.so.8
libglut.so.3 libvulkan.so.1 libOpenCL.so.1 libxcb.so.1 libX11.so.6 libX11-xcb.so.1 libXext.so.6 libXrender.so.1
libXi.so.6 libXrandr.so.2 libXfixes.so.3 libXcursor.so.1 libXinerama.so.1 libXdamage.so.1 libXcomposite.so.1
libXtst.so.6 libXss.so.1 libXt.so.6 libSM.so.6 libICE.so.6 libxkbcommon.so.0 libxkbcommon-x11.so.0 libxcb-cursor.so.0
libxcb-icccm.so.4 libxcb-image.so.0 libxcb-keysyms.so.1 libxcb-randr.so.0 libxcb-render-util.so.0 libxcb-shape.so.0
libxcb-xinerama.so.0 libxcb-xkb.so.1 libwayland-client.so.0 libwayland-cursor.so.0 libwayland-egl.so.1
libglib-2.0.so.0 libgthread-2.0.so.0 libgobject-2.0.so.0 libgio-2.0.so.0 libgmodule-2.0.so.0 libdbus-1.so.3
libcairo.so.2 libpango-1.0.so.0 libpangocairo-1.0.so.0 libgdk_pixbuf-2.0.so.0 libgtk-3.so.0 libgtk-x11-2.0.so.0
libfontconfig.so.1 libfreetype.so.6 libharfbuzz.so.0 libatk-1.0.so.0 libatk-bridge-2.0.so.0 libcups.so.2 libnss3.so
libnspr4.so libasound.so.2 libpulse.so.0 libportaudio.so.2 libjack.so.0 libsndfile.so.1 libFLAC.so.8 libogg.so.0
libvorbis.so.0 libmp3lame.so.0 libsox.so.3 libavcodec.so.59 libavcodec.so.61 libavformat.so.59 libavformat.so.61
libavutil.so.57 libavutil.so.59 libswscale.so.6 libswscale.so.8 libswresample.so.4 libswresample.so.5
libjpeg.so.62 libpng16.so.16 libtiff.so.5 libtiff.so.6 libwebp.so.7 libopenjp2.so.7 liblcms2.so.2 libexif.so.12
libturbojpeg.so.0 libheif.so.1 libraw1394.so.11 libdc1394.so.25 libusb-1.0.so.0 libudev.so.1 libv4l2.so.0 libzbar.so.0
libdmtx.so.0 libtesseract.so.5 libpoppler.so.126 libgs.so.9 libgs.so.10 libMagickWand-6.Q16.so.6
libpq.so.5 libmariadb.so.3 libsqlite3.so.0 libodbc.so.2 libodbcinst.so.2 libsybdb.so.5 libldap-2.4.so.2 libldap-2.5.so.0
liblber-2.4.so.2 libsasl2.so.2 libkrb5.so.3 libgssapi_krb5.so.2 librdkafka.so.1 libhiredis.so.0.14
libssl.so.3 libcrypto.so.3 libssl.so.1.1 libcrypto.so.1.1 libffi.so.7 libffi.so.8 libexpat.so.1 libxml2.so.2 libxslt.so.1
libexslt.so.0 libyaml-0.so.2 libcurl.so.4 libcurl-gnutls.so.4 libgnutls.so.30 libmagic.so.1 libarchive.so.13 libuuid.so.1
libselinux.so.1 libcap.so.2 libpcre2-8.so.0 libicuuc.so.67 libicuuc.so.72 libicuuc.so.76 libncurses.so.6 libncursesw.so.6
libtinfo.so.6 libreadline.so.8 libcrypt.so.1 libnsl.so.1 libnsl.so.2 libtirpc.so.3 libaio.so.1 libnuma.so.1
libgeos_c.so.1 libproj.so.25 libgdal.so.32 libspatialindex.so.6 libspatialindex_c.so.6 libhdf5_serial.so.103 libnetcdf.so.19
libgsl.so.25 libgsl.so.27 libgmp.so.10 libmpfr.so.6 libmpc.so.3 libfftw3.so.3 libfftw3f.so.3 libopenblas.so.0 libblas.so.3
liblapack.so.3 libcblas.so.3 libatlas.so.3 libarpack.so.2 libglpk.so.40 libCbc.so.3 libnlopt.so.0 libeccodes.so.0
libmpi.so.40 libibverbs.so.1 librdmacm.so.1 libhwloc.so.15 libpmix.so.2 libtcl8.6.so libtk8.6.so libpython3.9.so.1.0
libpython3.11.so.1.0 libpython3.13.so.1.0 liblua5.4.so.0 libR.so libenchant-2.so.2 libhunspell-1.7.so.0 libespeak-ng.so.1
libprotobuf.so.32 libre2.so.9 libsodium.so.23 libunwind.so.8 libjemalloc.so.2 libtcmalloc.so.4 libtcmalloc_minimal.so.4
libfuse.so.2 libgirepository-1.0.so.1 libsentencepiece.so.0 libdouble-conversion.so.3 libminizip.so.1 liblcms2.so.2
""".split()


def owners(mirror, suite, architecture):
    """The packages that have a library where the loader finds it, by the library's name."""
    machine = ARCHITECTURES[architecture]
    folders = {f"{root}lib/{machine}" for root in ("", "usr/")} | {"lib", "usr/lib"}
    found = {}
    with urllib.request.urlopen(f"{mirror}/dists/{suite}/main/Contents-{architecture}.gz") as answer:
        for line in gzip.open(answer, "rt", encoding="utf-8", errors="replace"):
            path, _, packages = line.rstrip("\n").rpartition(" ")
            folder, _, name = path.rstrip().rpartition("/")
            # BLAS and LAPACK are led to their names by alternatives.
            folder = folder.removesuffix("/blas").removesuffix("/lapack")
            if folder in folders:
                names = {package.rpartition("/")[2] for package in packages.split(",")}
                # What packages for linkers bring are links to what they depend on.
                found.setdefault(name, set()).update(name for name in names if not name.endswith("-dev"))
    # As the program itself chooses among several: the shortest name, which is that of the library's own package.
    return {name: min(packages, key=lambda package: (len(package), package)) for name, packages in found.items() if packages}


def main():
    mirror = (sys.argv[1] if len(sys.argv) > 1 else "http://ftp.debian.org/debian").rstrip("/")
    known = {suite: [owners(mirror, suite, architecture) for architecture in ARCHITECTURES] for suite in SUITES}
    lines = ["# Made by scripts/debian-libraries.py. A library, and the package that has it in " + ", ".join(SUITES) + "."]
    for library in sorted(set(LIBRARIES)):
        packages = []
        for suite in SUITES:
            names = {owner[library] for owner in known[suite] if library in owner}
            packages.append(names.pop() if len(names) == 1 else "-")
        if set(packages) != {"-"}:
            lines.append(" ".join([library, *packages]))
    TARGET.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
