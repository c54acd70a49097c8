# SPDX-License-Identifier: BSD-3-Clause
"""What a guest boots from: an ELF kernel and an initial RAM file system.

Used by guest/launch. The kernel is Debian's, unpacked from its package and
not installed: a folder with `vmlinuz` and `lib/modules/VERSION`. The
initramfs is made anew for every guest (5 MB, some milliseconds), so nothing
in it can be out of date. It holds busybox, the kernel modules named below,
the scripts of guest/initramfs and the guest's own job.
"""

import lzma
import os
import re
import struct

HERE = os.path.dirname(os.path.abspath(__file__))
BUSYBOX = "/bin/busybox"

# The virtio transport, the network port, the control ports, and the host's
# root over 9p under an overlay. What these depend on is read in the modules.
MODULES = ("virtio_pci", "virtio_net", "virtio_console", "9pnet_virtio", "9p",
           "overlay")


class BootFileError(Exception):
    """A file that a guest needs is missing or unusable; the text says which."""


def read_file(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as err:
        raise BootFileError(f"cannot read {path}: {err.strerror} "
                            "(scripts/setup.sh fetches what a guest needs)"
                            ) from err


def kernel_version(kernel_dir):
    """Return VERSION of the one folder lib/modules/VERSION in kernel_dir."""
    modules = os.path.join(kernel_dir, "lib/modules")
    try:
        versions = os.listdir(modules)
    except OSError as err:
        raise BootFileError(f"no guest kernel in {kernel_dir} "
                            "(scripts/setup.sh fetches one)") from err
    if len(versions) != 1:
        raise BootFileError(f"{modules} must hold one kernel's modules, "
                            f"holds {len(versions)}")
    return versions[0]


def _elf_in_bzimage(image):
    """Return the kernel inside a bzImage, None if it is not packed with xz.

    Source: Linux Documentation/arch/x86/boot.rst: setup_sects at 0x1f1,
    payload_offset and payload_length at 0x248, counted from the protected
    mode code.
    """
    if image[0x202:0x206] != b"HdrS":
        return None
    setup_sects = image[0x1f1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sects + 1) * 512 + offset
    payload = image[start:start + length]
    if not payload.startswith(b"\xfd7zXZ\0"):
        return None
    # After the xz stream comes the unpacked size, which is not part of it.
    return lzma.LZMADecompressor().decompress(payload)


def boot_kernel(kernel_dir):
    """Return the path of the kernel to boot.

    The emulated CPU needs 2.3 s to unpack vmlinuz, the host 0.5 s, once: QEMU
    boots the ELF file as it is (PVH). It is kept beside vmlinuz; where that
    cannot be, the guest boots vmlinuz itself.
    """
    packed = os.path.join(kernel_dir, "vmlinuz")
    unpacked = os.path.join(kernel_dir, "vmlinux")
    try:
        if os.path.getmtime(unpacked) >= os.path.getmtime(packed):
            return unpacked
    except OSError:
        pass
    elf = _elf_in_bzimage(read_file(packed))
    if elf is None:
        return packed
    # Two guests may be doing this at once: each its own file, then a rename.
    temporary = f"{unpacked}.{os.getpid()}"
    try:
        with open(temporary, "wb") as file:
            file.write(elf)
        os.rename(temporary, unpacked)
    except OSError:
        return packed
    return unpacked


def _module_files(kernel_dir):
    """Return {module name: path} of all modules of the kernel."""
    top = os.path.join(kernel_dir, "lib/modules", kernel_version(kernel_dir))
    return {name[:-3].replace("-", "_"): os.path.join(folder, name)
            for folder, _, names in os.walk(os.path.join(top, "kernel"))
            for name in names if name.endswith(".ko")}


def _load_order(kernel_dir, modules):
    """Return [(name, content)] of @modules and all they need, needed first."""
    files = _module_files(kernel_dir)
    order = {}

    def add(name):
        if name in order:
            return
        if name not in files:
            raise BootFileError(f"the kernel in {kernel_dir} has no module "
                                f"{name}")
        content = read_file(files[name])
        needs = re.search(rb"\0depends=([^\0]*)\0", content)
        for need in needs.group(1).decode().split(",") if needs else []:
            if need:
                add(need.replace("-", "_"))
        order[name] = content

    for name in modules:
        add(name.replace("-", "_"))
    return list(order.items())


def _cpio(entries):
    """Return a "newc" cpio archive of [(path, mode, content)].

    Source: Linux Documentation/driver-api/early-userspace/buffer-format.rst
    """
    archive = bytearray()
    for ino, (path, mode, content) in enumerate(
            entries + [("TRAILER!!!", 0, b"")], 1):
        name = path.encode() + b"\0"
        fields = (ino, mode, 1, 0, 0, 0, len(content), 0, 0, 0, 0,
                  len(name), 0)
        archive += b"070701" + b"".join(b"%08x" % field for field in fields)
        archive += name
        archive += bytes(-len(archive) % 4)
        archive += content
        archive += bytes(-len(archive) % 4)
    return archive


def initramfs(kernel_dir, more_modules, guest_files):
    """Return the initramfs as bytes.

    @kernel_dir:   where the kernel and its modules are
    @more_modules: names of modules to load after MODULES
    @guest_files:  {name: content} of the files that the guest will find in
                   /run/guest, beside those of guest/initramfs
    """
    folder, script, file = 0o040755, 0o100755, 0o100644
    modules = _load_order(kernel_dir, [*MODULES, *more_modules])
    entries = [(name, folder, b"") for name in
               ("dev", "modules", "lower", "upper", "new", "guest")]
    entries += [
        ("init", script, read_file(f"{HERE}/initramfs/init")),
        ("guest/run-job", script, read_file(f"{HERE}/initramfs/run-job")),
        ("guest/busybox", script, read_file(BUSYBOX)),
        ("modules/order", file,
         "".join(f"{name}.ko\n" for name, _ in modules).encode()),
    ]
    entries += [(f"modules/{name}.ko", file, content)
                for name, content in modules]
    entries += [(f"guest/{name}", file, content)
                for name, content in guest_files.items()]
    return _cpio(entries)
