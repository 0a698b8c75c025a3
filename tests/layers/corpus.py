"""Images with odd layers, as other builders write them and as nobody should.

    corpus.py OUT BUSYBOX ARCHITECTURE

writes OCI image layouts: OUT with an image CASE:1 for each case, and OUT/layouts/CASE with the same as `latest`. An image
has a layer with busybox, and the layers of its case. The uncompressed layers lie in OUT/seeds too. The same bytes each
time.
"""

import gzip
import hashlib
import json
import os
import struct
import subprocess
import sys

BLOCK = 512


def octal(value, width):
    return b"%0*o\0" % (width - 1, value)


def base256(value, width):
    return bytes([0x80]) + value.to_bytes(width - 1, "big")


def header(name, kind=b"0", size=0, mode=0o644, uid=0, gid=0, link=b"", magic=b"ustar\x0000", prefix=b"",
           number=octal, extra=None, device=(0, 0)):
    """One header. `magic` of nothing is the format of Unix version 7."""
    block = bytearray(BLOCK)
    block[0:len(name[:100])] = name[:100]
    block[100:108] = octal(mode, 8)
    block[108:116] = number(uid, 8)
    block[116:124] = number(gid, 8)
    block[124:136] = number(size, 12)
    block[136:148] = octal(0, 12)
    block[156:157] = kind
    block[157:157 + len(link[:100])] = link[:100]
    block[257:257 + len(magic)] = magic
    if magic:
        block[329:337], block[337:345] = octal(device[0], 8), octal(device[1], 8)
    block[345:345 + len(prefix)] = prefix
    if extra:
        at, bytes_ = extra
        block[at:at + len(bytes_)] = bytes_
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(data):
    return data + b"\0" * (-len(data) % BLOCK)


def member(name, data=b"", **how):
    return header(name, size=len(data), **how) + padded(data)


def file(name, data=b"x", **how):
    return member(name, data, **how)


def folder(name, mode=0o755, **how):
    return member(name, kind=b"5", mode=mode, **how)


def symlink(name, target, **how):
    return member(name, kind=b"2", mode=0o777, link=target, **how)


def hard(name, target, **how):
    return member(name, kind=b"1", link=target, **how)


def record(key, value):
    body = b" " + key + b"=" + value + b"\n"
    length = len(body) + 1
    while len(b"%d" % length) + len(body) != length:
        length = len(b"%d" % length) + len(body)
    return b"%d" % length + body


def pax(records, kind=b"x"):
    return member(b"PaxHeaders/x", b"".join(record(*pair) for pair in records), kind=kind)


def gnu_long(name, kind=b"L"):
    return member(b"././@LongLink", name + b"\0", kind=kind)


def end(*members):
    return b"".join(members) + bytes(2 * BLOCK)


GNU = b"ustar  \0"


def gnu_sparse(name, pieces, real):
    """The old format: the map is in the header, four pieces of it, and in blocks behind it. All are (offset, bytes)."""
    entry = lambda at, data: octal(at, 12) + octal(len(data), 12) if at < 1 << 33 else base256(at, 12) + octal(len(data), 12)
    entries = [entry(*piece) for piece in pieces]
    stored = b"".join(data for _, data in pieces)
    first, rest = entries[:4], entries[4:]
    field = b"".join(first).ljust(96, b"\0") + (b"\1" if rest else b"\0") + (octal(real, 12) if real < 1 << 33 else base256(real, 12))
    out = header(name, b"S", len(stored), magic=GNU, extra=(386, field))
    while rest:
        now, rest = rest[:21], rest[21:]
        out += b"".join(now).ljust(504, b"\0") + (b"\1" if rest else b"\0") + bytes(7)
    return out + padded(stored)


def pax_sparse(name, pieces, real, version):
    stored = b"".join(data for _, data in pieces)
    if version == "1.0":
        numbers = [len(pieces)] + [n for at, data in pieces for n in (at, len(data))]
        table = padded(b"".join(b"%d\n" % n for n in numbers))
        records = [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.name", name),
                   (b"GNU.sparse.realsize", b"%d" % real)]
        return pax(records) + file(b"GNUSparseFile.0/x", table + stored)
    if version == "0.1":
        numbers = b",".join(b"%d,%d" % (at, len(data)) for at, data in pieces)
        records = [(b"GNU.sparse.size", b"%d" % real), (b"GNU.sparse.numblocks", b"%d" % len(pieces)),
                   (b"GNU.sparse.name", name), (b"GNU.sparse.map", numbers)]
        return pax(records) + file(b"GNUSparseFile.0/x", stored)
    records = [(b"GNU.sparse.size", b"%d" % real), (b"GNU.sparse.numblocks", b"%d" % len(pieces))]
    for at, data in pieces:
        records += [(b"GNU.sparse.offset", b"%d" % at), (b"GNU.sparse.numbytes", b"%d" % len(data))]
    return pax(records) + file(name, stored)


PIECES = [(4096, b"a" * 512), (1 << 20, b"b" * 1024), ((5 << 20) - 512, b"c" * 512)]
MANY = [(i * 65536, b"%04d" % i * 128) for i in range(60)]
LONG = b"d" * 120 + b"/" + b"n" * 200
TOO_LONG = b"n" * 256
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
USRMERGE = [folder(b"usr/"), folder(b"usr/lib/"), file(b"usr/lib/old"), symlink(b"lib", b"usr/lib")]

# In the place of a member: what all images have below.
BASE = None

# Each has the layers above that of busybox, the lowest first.
CASES = {
    # What there is below.
    "whiteouts-of-nothing": [[file(b"a/x"), file(b"b/x")], [file(b"a/.wh.none"), file(b"none/.wh.none"), file(b".wh.nothing"), file(b"a/new/.wh.y"), file(b"a/new/z")]],
    "whiteouts": [[file(b"a/x"), file(b"a/y"), file(b"b/c/d"), symlink(b"l", b"a")], [file(b"a/.wh.x"), file(b".wh.b"), file(b".wh.l")]],
    "whiteout-before-its-name": [[file(b"a/x", b"old"), file(b"b/old")], [file(b"a/.wh.x"), file(b"a/x", b"new"), file(b".wh.b"), file(b"b/new")]],
    "whiteout-behind-its-name": [[file(b"a/x", b"old"), file(b"b/old")], [file(b"a/x", b"new"), file(b"a/.wh.x"), file(b"b/new"), file(b".wh.b")]],
    "opaque-before": [[file(b"a/old"), file(b"a/sub/old")], [folder(b"a/", 0o711), file(b"a/.wh..wh..opq"), file(b"a/new"), file(b"a/sub/new")]],
    "opaque-behind": [[file(b"a/old"), file(b"a/sub/old")], [folder(b"a/", 0o711), file(b"a/new"), file(b"a/sub/new"), file(b"a/.wh..wh..opq")]],
    "opaque-of-nothing": [[file(b"b")], [folder(b"a/"), file(b"a/.wh..wh..opq"), file(b"a/new"), file(b"a/.wh.gone")]],
    "opaque-root": [[file(b"b"), file(b"c/d")], [file(b".wh..wh..opq"), BASE, file(b"c/e")]],
    "deleted-and-there-again": [[file(b"a/b/c")], [file(b".wh.a")], [file(b"a/d")], [file(b"a/.wh.d"), file(b"a/b/e")]],
    "aufs-books": [[file(b"a")], [folder(b".wh..wh.plnk/"), file(b".wh..wh.plnk/1.2"), file(b".wh..wh.aufs"), file(b"b")]],
    # Links and folders in each other's place.
    "folder-becomes-link-and-back": [[folder(b"a/"), file(b"a/x")], [symlink(b"a", b"b"), folder(b"b/"), file(b"b/y")], [folder(b"a/"), file(b"a/z")]],
    "folder-becomes-file-and-back": [[folder(b"a/"), file(b"a/x")], [file(b"a")], [folder(b"a/"), file(b"a/z")]],
    "within-one-layer": [[folder(b"a/"), file(b"a/x"), symlink(b"a", b"b"), folder(b"a/"), file(b"a/y"), file(b"c"), folder(b"c/"), file(b"c/d"), file(b"c", b"last")]],
    "lib-is-a-link": [USRMERGE, [file(b"lib/x"), file(b"lib/sub/y"), file(b"lib/.wh.old")]],
    "lib-is-a-link-with-its-folder": [USRMERGE, [folder(b"lib/"), file(b"lib/x")]],
    "lib-is-an-absolute-link": [[folder(b"usr/"), folder(b"usr/lib/"), file(b"usr/lib/old"), symlink(b"lib", b"/usr/lib")], [file(b"lib/x"), symlink(b"lib/y", b"x"), hard(b"lib/z", b"lib/x")]],
    "links-of-links": [[folder(b"a/"), symlink(b"a/b", b"../c"), symlink(b"c", b"/d"), folder(b"d/", 0o750, uid=7, gid=8), file(b"d/old")], [file(b"a/b/x"), file(b"c/.wh.old")]],
    "a-link-within-the-layer": [[folder(b"real/"), symlink(b"to", b"real"), file(b"to/x"), folder(b"to/sub/"), file(b"to/sub/y")]],
    "a-link-out": [[symlink(b"out", b"../../../../../../srv"), folder(b"srv/", 0o755), symlink(b"opt2", b"/opt/.")], [file(b"out/x"), file(b"opt2/y")]],
    "a-link-to-nothing": [[symlink(b"a", b"b/c")], [file(b"a/x")]],
    "opaque-through-a-link": [USRMERGE, [file(b"lib/.wh..wh..opq"), file(b"lib/x")]],
    "modes-of-folders-without-entries": [[folder(b"t/", 0o1777), folder(b"t/own/", 0o700, uid=5, gid=6), folder(b"/", 0o755)], [file(b"t/x"), file(b"t/own/y")]],
    # The root and absolute names.
    "root": [[folder(b"./", 0o711, uid=3, gid=4), file(b"a")], [file(b"b")]],
    "kaniko": [[folder(b"/"), folder(b"/a/"), file(b"/a/x"), hard(b"/a/y", b"/a/x"), file(b"/b/z")], [folder(b"/"), file(b"/a/.wh.x")]],
    "hard-link-below": [[file(b"a/x", b"below", mode=0o640, uid=9, gid=10), file(b"usr/f"), symlink(b"l", b"usr")], [hard(b"b/y", b"a/x"), hard(b"z", b"/a/x"), hard(b"g", b"l/f")]],
    "hard-link-to-a-link": [[file(b"a"), symlink(b"s", b"a"), hard(b"h", b"s")]],
    "hard-link-to-itself-below": [[file(b"a", b"below")], [hard(b"b", b"a"), file(b"a", b"above")]],
    # Kinds and modes.
    "pipes": [[member(b"p", kind=b"6", mode=0o620)]],
    "setuid": [[file(b"s", mode=0o4755, uid=11), file(b"g", mode=0o2711, gid=12), folder(b"d/", 0o3777), file(b"none", mode=0)]],
    "read-only-folders": [[folder(b"r/", 0o555), file(b"r/x", mode=0o444), folder(b"r/s/", 0o555), file(b"r/s/y")], [file(b"r/s/z"), file(b"r/.wh.x")]],
    "duplicates": [[file(b"a", b"1"), file(b"a", b"22"), symlink(b"a", b"b"), file(b"a", b"333", mode=0o600), file(b"d/x"), folder(b"d/", 0o700), folder(b"d/", 0o750)]],
    "empty": [[file(b"zero", b""), folder(b"nothing/")], []],
    # Names.
    "long-names": [[gnu_long(LONG) + file(LONG), pax([(b"path", b"p/" + LONG)]) + file(b"p"), gnu_long(LONG, b"K") + symlink(b"s", LONG), pax([(b"linkpath", LONG)]) + hard(b"h", LONG)],
                   [file(b"n" * 100), file(b"m" * 60, prefix=b"q" * 150), gnu_long(b"/".join([b"e" * 250] * 8)) + file(b"e")]],
    "names-not-in-utf8": [[file(b"caf\xe9/\xff\xfe"), symlink(b"s\xe9", b"\xff"), pax([(b"path", b"p\xe9/x")]) + file(b"p")], [file(b"caf\xe9/.wh.\xff\xfe"), file(b"caf\xe9/y"), hard(b"h\xe9", b"p\xe9/x")]],
    "odd-names": [[file(b"./a//b/./c"), file(b"new\nline"), file(b"back\\slash"), file(b" "), file(b".wh"), file(b"...")]],
    # Formats.
    "old-format": [[file(b"v7", magic=b""), member(b"folder/", magic=b""), member(b"d5", kind=b"5", magic=b"", mode=0o711), member(b"nul", b"x", kind=b"\0", magic=b""), member(b"seven", b"7", kind=b"7")]],
    "numbers": [[file(b"big", b"x", uid=3_000_000, gid=2_500_000, number=base256), pax([(b"uid", b"123456"), (b"gid", b"654321"), (b"mtime", b"1.5"), (b"comment", b"no")]) + file(b"pax"), pax([(b"size", b"3")]) + header(b"sized") + padded(b"abc")]],
    "global-headers": [[pax([(b"comment", b"git"), (b"mtime", b"3")], b"g"), file(b"a"), file(b"b", uid=5)]],
    "gnu-sparse": [[gnu_sparse(b"few", PIECES, 5 << 20), gnu_sparse(b"many", MANY, 4 << 20), gnu_sparse(b"hole", [(1 << 20, b"")], 1 << 20), file(b"behind")]],
    "pax-sparse": [[pax_sparse(b"v" + version.encode(), pieces, 5 << 20, version) for version in ("0.0", "0.1", "1.0") for pieces in (PIECES,)] + [pax_sparse(b"many", MANY, 4 << 20, "1.0"), file(b"behind")]],
    "attributes": [[pax([(b"SCHILY.xattr.user.colour", b"green\0\n"), (b"SCHILY.xattr.security.capability", CAPABILITY)]) + file(b"a", mode=0o755), pax([(b"SCHILY.xattr.user.colour", b"blue")]) + folder(b"d/")]],
    # What is refused by everybody, or is not what it seems.
    "devices": [[member(b"dev2/null", kind=b"3", mode=0o666, device=(1, 3)), member(b"disk", kind=b"4", device=(8, 0)), file(b"c")], [member(b"c", kind=b"3", device=(0, 0)), member(b"dev2/whiteout", kind=b"3"), file(b"d")]],
    "overlay-attributes": [[file(b"a/x"), file(b"secret/y")], [pax([(b"SCHILY.xattr.user.overlay.redirect", b"/secret"), (b"SCHILY.xattr.trusted.overlay.redirect", b"/secret"), (b"SCHILY.xattr.user.overlay.opaque", b"y"), (b"SCHILY.xattr.trusted.overlay.opaque", b"y"), (b"SCHILY.xattr.user.fine", b"1")]) + folder(b"a/"), file(b"a/z")]],
    "gigabytes": [[gnu_sparse(b"nine", [(0, b"first"), (9 << 30, b"")], 9 << 30), pax_sparse(b"pax", [((9 << 30) - 4, b"last")], 9 << 30, "1.0")]],
    "loops": [[symlink(b"a", b"b"), symlink(b"b", b"a"), symlink(b"self", b"self")], [file(b"a/x")]],
    "dot-dot": [[file(b"../x")]],
    "dot-dot-inside": [[folder(b"a/"), file(b"a/../x")]],
    "hard-link-out": [[hard(b"x", b"../../../../../../etc/passwd")]],
    "hard-link-to-nothing": [[hard(b"x", b"nowhere")]],
    "hard-link-to-a-folder": [[folder(b"a/"), hard(b"x", b"a")]],
    "whiteout-of-its-folder": [[file(b"a/x")], [file(b"a/.wh..")]],
    "whiteout-of-the-folder-above": [[file(b"a/x")], [file(b"a/.wh...")]],
    "name-over-255": [[gnu_long(TOO_LONG) + file(TOO_LONG)]],
    "through-a-file": [[file(b"a")], [file(b"a/x")]],
    "stump": [[header(b"a", size=1000) + b"x" * 100]],
}


def base(busybox):
    names = [folder(name) for name in (b"bin/", b"dev/", b"proc/", b"sys/", b"etc/", b"run/")]
    names.append(folder(b"tmp/", 0o1777))
    with open(busybox, "rb") as program:
        names.append(member(b"bin/busybox", program.read(), mode=0o755))
    return b"".join(names + [symlink(b"bin/sh", b"busybox")])


class Layout:
    def __init__(self, folder, shared):
        self.folder, self.shared = folder, shared
        os.makedirs(f"{folder}/blobs/sha256")

    def put(self, data):
        name = hashlib.sha256(data).hexdigest()
        path, shared = f"{self.folder}/blobs/sha256/{name}", f"{self.shared}/{name}"
        if not os.path.exists(path):
            if not os.path.exists(shared):
                with open(shared, "wb") as blob:
                    blob.write(data)
            os.link(shared, path)
        return {"digest": f"sha256:{name}", "size": len(data)}

    def image(self, layers, kind="oci", attested=False):
        """`layers` are pairs of an archive and of what is stored of it, with its media type."""
        docker = kind == "docker"
        config = {"architecture": ARCHITECTURE, "os": "linux", "config": {"Cmd": ["/bin/busybox", "true"]},
                  "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(tar).hexdigest() for tar, *_ in layers]}}
        config_type = "application/vnd.docker.container.image.v1+json" if docker else "application/vnd.oci.image.config.v1+json"
        manifest_type = "application/vnd.docker.distribution.manifest.v2+json" if docker else "application/vnd.oci.image.manifest.v1+json"
        manifest = {"schemaVersion": 2, "mediaType": manifest_type,
                    "config": {"mediaType": config_type, **self.put(json.dumps(config).encode())},
                    "layers": [{"mediaType": media, **self.put(stored), **more} for _, stored, media, more in layers]}
        platform = {"architecture": ARCHITECTURE, "os": "linux"}
        child = {"mediaType": manifest_type, **self.put(json.dumps(manifest).encode()), "platform": platform}
        children = [child]
        if attested:
            statement = self.put(b'{"_type":"https://in-toto.io/Statement/v0.1"}')
            empty = {"architecture": "unknown", "os": "unknown", "config": {}, "rootfs": {"type": "layers", "diff_ids": [statement["digest"]]}}
            proof = {"schemaVersion": 2, "mediaType": manifest_type,
                     "config": {"mediaType": config_type, **self.put(json.dumps(empty).encode())},
                     "layers": [{"mediaType": "application/vnd.in-toto+json", **statement}]}
            strange = {"architecture": "tricorder", "os": "linux", "variant": "v9"}
            index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
                {"mediaType": manifest_type, **self.put(json.dumps({**manifest, "annotations": {"for": "nobody"}}).encode()), "platform": strange},
                {"mediaType": manifest_type, **self.put(json.dumps(proof).encode()), "platform": {"architecture": "unknown", "os": "unknown"},
                 "annotations": {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": child["digest"]}},
                child]}
            if attested == "bare":
                # As some builders have it: without platforms.
                del child["platform"], index["manifests"][0], index["manifests"][0]["platform"]
            children = [{"mediaType": index["mediaType"], **self.put(json.dumps(index).encode())}]
        children[0]["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
        name = os.path.basename(self.folder) + ":1"
        ALL.append({**children[0], "annotations": {"org.opencontainers.image.ref.name": name}})
        with open(f"{self.folder}/index.json", "w") as out:
            json.dump({"schemaVersion": 2, "manifests": children}, out)
        with open(f"{self.folder}/oci-layout", "w") as out:
            out.write('{"imageLayoutVersion":"1.0.0"}')


def zip_members(tar):
    """gzip in several members."""
    half = len(tar) // 2
    return gzip.compress(tar[:half], 6, mtime=0) + gzip.compress(b"", 6, mtime=0) + gzip.compress(tar[half:], 1, mtime=0)


# The images of the layout that has them all.
ALL = []
ARCHITECTURE = sys.argv[3]


def main(out, busybox, _):
    shared, seeds, layouts = f"{out}/blobs/sha256", f"{out}/seeds", f"{out}/layouts"
    for folder_ in (shared, seeds):
        os.makedirs(folder_)
    names = base(busybox)
    below = end(names)
    oci = "application/vnd.oci.image.layer.v1.tar"
    plain = lambda tar: (tar, tar, oci, {})
    for name, layers in CASES.items():
        layers = [[names if part is BASE else part for part in layer] for layer in layers]
        tars = [b"".join(layer) if name == "stump" else end(*layer) for layer in layers]
        for number, tar in enumerate(tars):
            if names not in tar:
                with open(f"{seeds}/{name}.{number}.tar", "wb") as seed:
                    seed.write(tar)
        Layout(f"{layouts}/{name}", shared).image([plain(tar) for tar in [below] + tars])
    one = end(file(b"a/x"), symlink(b"l", b"a"), file(b"big", b"0123456789" * 10000))
    two = end(file(b"l/y"))
    zstd = lambda tar: subprocess.run(["zstd", "-q", "-c"], input=tar, stdout=subprocess.PIPE, check=True).stdout
    docker = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    hidden = "application/vnd.oci.image.layer.nondistributable.v1.tar"
    urls = {"urls": ["https://foreign.example/layer.tar"]}
    Layout(f"{layouts}/stored-zstd", shared).image([plain(below)] + [(t, zstd(t), oci + "+zstd", {}) for t in (one, two)])
    Layout(f"{layouts}/stored-gzip-members", shared).image([(t, zip_members(t), oci + "+gzip", {}) for t in (below, one, two)])
    Layout(f"{layouts}/stored-docker", shared).image([(t, zip_members(t), docker, {}) for t in (below, one, two)], "docker")
    Layout(f"{layouts}/stored-docker-foreign", shared).image(
        [(below, zip_members(below), docker, {})] + [(t, zip_members(t), foreign, urls) for t in (one, two)], "docker")
    Layout(f"{layouts}/stored-nondistributable", shared).image(
        [plain(below), (one, one, hidden, urls), (two, zip_members(two), hidden + "+gzip", urls)])
    Layout(f"{layouts}/stored-attested", shared).image([plain(t) for t in (below, one, two)], attested=True)
    Layout(f"{layouts}/stored-attested-bare", shared).image([plain(t) for t in (below, one, two)], attested="bare")
    with open(f"{out}/index.json", "w") as index:
        json.dump({"schemaVersion": 2, "manifests": ALL}, index)


if __name__ == "__main__":
    main(*sys.argv[1:])
