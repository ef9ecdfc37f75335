"""Pictures that need no download: they are part of the scikit-image package.

Titles, authors and licences are those that scikit-image 0.26 documents in `skimage.data`. Only pictures
documented as CC0, public domain or without known copyright restrictions are listed; those without
documented terms (moon, page, motorcycle, colour wheel, logo, …) are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Sample:
    """One picture of scikit-image, with its author and licence."""

    name: str
    file: str  # in skimage/data
    title: str
    author: str
    source: str
    licence: str
    suits: Literal["content", "style"]

    @property
    def path(self) -> Path:
        """Path of the file, found without importing scikit-image.

        Raises:
            FileNotFoundError: If scikit-image is not installed.
        """
        package = find_spec("skimage")
        if package is None or package.origin is None:
            raise FileNotFoundError(f"sample:{self.name} ships with scikit-image, which is not installed")
        return Path(package.origin).parent / "data" / self.file


_SKIMAGE = "scikit-image"

SAMPLES: dict[str, Sample] = {
    sample.name: sample
    for sample in (
        Sample(
            "astronaut",
            "astronaut.png",
            "Eileen Collins, astronaut",
            "NASA",
            "NASA Great Images database, flic.kr/p/r9qvLn",
            "public domain",
            "content",
        ),
        Sample(
            "camera",
            "camera.png",
            "A photographer and his camera (grey)",
            "Lav Varshney",
            _SKIMAGE,
            "CC0",
            "content",
        ),
        Sample(
            "chelsea",
            "chelsea.png",
            "Chelsea the cat",
            "Stefan van der Walt",
            _SKIMAGE,
            "CC0",
            "content",
        ),
        Sample(
            "coffee",
            "coffee.png",
            "A cup of coffee on a wooden table",
            "Rachel Michetti",
            "Pikolo Espresso Bar",
            "CC0",
            "content",
        ),
        Sample(
            "coins",
            "coins.png",
            "Greek coins from Pompeii (grey)",
            "Brooklyn Museum",
            "brooklynmuseum.org/opencollection/archives/image/51611",
            "no known copyright restrictions",
            "content",
        ),
        Sample(
            "horse",
            "horse.png",
            "Silhouette of a horse",
            "Andreas Preuss (marauder)",
            "openclipart.org/detail/158377/horse-by-marauder",
            "CC0",
            "content",
        ),
        Sample(
            "rocket",
            "rocket.jpg",
            "DSCOVR on a Falcon 9 before its launch",
            "SpaceX",
            "flickr.com/photos/spacexphotos/16511594820",
            "public domain",
            "content",
        ),
        Sample(
            "brick",
            "brick.png",
            "A brick wall (grey)",
            "CC0Textures",
            "cc0textures.com, Bricks25",
            "CC0",
            "style",
        ),
        Sample(
            "grass",
            "grass.png",
            "Grass and leaves (grey)",
            "linolafett",
            "deviantart.com/linolafett/art/Grass-01-434853879",
            "CC0",
            "style",
        ),
        Sample(
            "gravel",
            "gravel.png",
            "Gravel (grey)",
            "CC0Textures",
            "cc0textures.com, Gravel04",
            "CC0",
            "style",
        ),
        Sample(
            "hubble",
            "hubble_deep_field.jpg",
            "Galaxies: the Hubble eXtreme Deep Field",
            "NASA",
            "hubblesite.org/newscenter/archive/releases/2012/37/image/a",
            "public domain",
            "style",
        ),
        Sample(
            "ihc",
            "ihc.png",
            "Stained tissue: colonic glands",
            "Center for Microscopy And Molecular Imaging",
            _SKIMAGE,
            "no known copyright restrictions",
            "style",
        ),
        Sample(
            "retina",
            "retina.jpg",
            "A human retina",
            "Mikael Häggström",
            "commons.wikimedia.org, Fundus_photograph_of_normal_left_eye.jpg",
            "CC0",
            "style",
        ),
    )
}
