"""The registry of the papers' pictures.

Unknown facts are None or "". Hashes are published ones only: those of pystiche's replications and of the
files in the authors' repositories.
"""

from __future__ import annotations

from nstbench.pictures.papers.picture import PaperPicture

COLLECTIONS = {
    "gatys2016": "Gatys, Ecker, Bethge: Image Style Transfer Using Convolutional Neural Networks, CVPR 2016",
    "gatys2015_textures": (
        "Gatys, Ecker, Bethge: Texture Synthesis Using Convolutional Neural Networks, NIPS 2015"
    ),
    "li_wand2016": (
        "Li, Wand: Combining Markov Random Fields and Convolutional Neural Networks for Image Synthesis, "
        "CVPR 2016"
    ),
}

_COMMONS = "https://upload.wikimedia.org/wikipedia/commons/"
_COMMONS_PAGE = "https://commons.wikimedia.org/wiki/File:"
_CNNMRF = "https://github.com/chuanli11/CNNMRF"

_ENTRIES = (
    PaperPicture(
        key="neckarfront",
        title="Tübingen Neckarfront",
        author="Andreas Praefcke",
        figures={"gatys2016": "fig. 3 A; arXiv 1508.06576, fig. 2 A"},
        licence="CC BY 3.0",
        urls=(f"{_COMMONS}0/00/Tuebingen_Neckarfront.jpg",),
        page=f"{_COMMONS_PAGE}Tuebingen_Neckarfront.jpg",
        sha256="e67d1869f01fd805385c681a80d9ebcf0f70ea4a5fe6127f0606bb1c7f4bf506",
        md5="dc9ad203263f34352e18bc29b03e1066",
        pixels=(1024, 768),
        note="The same bytes as in the authors' two repositories and as neural-style's tubingen.jpg.",
    ),
    PaperPicture(
        key="shipwreck",
        title="The Shipwreck of the Minotaur",
        author="J. M. W. Turner",
        year="c. 1810",
        figures={"gatys2016": "fig. 3 B; arXiv 1508.06576, fig. 2 B"},
        died=1851,
        urls=("https://blog-imgs-51.fc2.com/b/e/l/bell1976brain/800px-Shipwreck_turner.jpg",),
        md5="4fb76d6f6fc1678cb74e858324d4d0cb",
        note="pystiche's copy, on a blog's host; not the file that neural-style ships.",
    ),
    PaperPicture(
        key="starry_night",
        title="The Starry Night (the authors' copy)",
        author="Vincent van Gogh",
        year="1889",
        figures={"gatys2016": "fig. 3 C; arXiv 1508.06576, fig. 2 C"},
        died=1890,
        urls=(
            "https://raw.githubusercontent.com/leongatys/PytorchNeuralStyleTransfer/master/Images/"
            "vangogh_starry_night.jpg",
        ),
        page="https://github.com/leongatys/PytorchNeuralStyleTransfer",
        md5="c334d6756703e0ee541cc404b0899dc7",
        pixels=(970, 768),
        note="What the authors' published loss curves were computed with.",
    ),
    PaperPicture(
        key="starry_night_wikimedia",
        title="The Starry Night (Wikimedia's copy, 1280 pixels wide)",
        author="Vincent van Gogh",
        year="1889",
        figures={"gatys2016": "in pystiche's replication of fig. 3 C"},
        died=1890,
        urls=(
            f"{_COMMONS}thumb/e/ea/Van_Gogh_-_Starry_Night_-_Google_Art_Project.jpg/"
            "1280px-Van_Gogh_-_Starry_Night_-_Google_Art_Project.jpg",
        ),
        page=f"{_COMMONS_PAGE}Van_Gogh_-_Starry_Night_-_Google_Art_Project.jpg",
        md5="372e5bc438e3e8d0eb52cc6f7ef44760",
        note="A scaled copy, which Wikimedia may encode again at any time: then its hash changes.",
    ),
    PaperPicture(
        key="the_scream",
        title="The Scream",
        author="Edvard Munch",
        year="1893",
        figures={"gatys2016": "fig. 3 D; arXiv 1508.06576, fig. 2 D"},
        died=1944,
        urls=(f"{_COMMONS}f/f4/The_Scream.jpg",),
        page=f"{_COMMONS_PAGE}The_Scream.jpg",
        md5="46ef64eea5a7b2d13dbadd420b531249",
    ),
    PaperPicture(
        key="femme_nue_assise",
        title="Femme nue assise (Figure dans un fauteuil)",
        author="Pablo Picasso",
        year="1909–10",
        figures={"gatys2016": "fig. 3 E; arXiv 1508.06576, fig. 2 E"},
        died=1973,
        page=(
            "https://en.wikipedia.org/wiki/File:Pablo_Picasso,_1909-10,_Figure_dans_un_Fauteuil_(Seated_Nude,"
            "_Femme_nue_assise),_oil_on_canvas,_92.1_x_73_cm,_Tate_Modern,_London.jpg"
        ),
        md5="ba14b947b225d9e5c59520a814376944",
    ),
    PaperPicture(
        key="composition_vii",
        title="Composition VII",
        author="Wassily Kandinsky",
        year="1913",
        figures={"gatys2016": "fig. 3 F; arXiv 1508.06576, figs. 2 F and 3"},
        died=1944,
        urls=(f"{_COMMONS}b/b4/Vassily_Kandinsky%2C_1913_-_Composition_7.jpg",),
        page=f"{_COMMONS_PAGE}Vassily_Kandinsky,_1913_-_Composition_7.jpg",
        md5="bfcbc420684bf27d2d8581fa8cc9522f",
    ),
    PaperPicture(
        key="jesuiten_iii",
        title="Jesuiten III",
        author="Lyonel Feininger",
        year="1915",
        figures={"gatys2016": "fig. 5"},
        died=1956,
    ),
    PaperPicture(
        key="london",
        title="London by day",
        figures={"gatys2016": "fig. 7, content"},
        licence="unclear",
        note="The photographer and an address are unknown: use a photograph of a city by day.",
    ),
    PaperPicture(
        key="new_york",
        title="New York by night",
        figures={"gatys2016": "fig. 7, style"},
        licence="unclear",
        note="The photographer and an address are unknown: use a photograph of a city by night.",
    ),
    PaperPicture(
        key="pebbles",
        title="Pebbles",
        figures={"gatys2015_textures": "fig. 3 A"},
        licence="academic use",
        urls=("https://raw.githubusercontent.com/leongatys/DeepTextures/master/Images/pebbles.jpg",),
        page="https://github.com/leongatys/DeepTextures",
        md5="25da69021ba99c81553e03c7956e68de",
        pixels=(256, 256),
        note="The photographer is unknown; the terms are those of the authors' repository.",
    ),
    PaperPicture(
        key="blue_bottle",
        title="Blue Bottle",
        author="Christopher Michel (cmichel67)",
        year="2014",
        figures={"li_wand2016": "fig. 6, content; run_trans.lua, potrait1.jpg"},
        licence="unclear",
        page="https://www.flickr.com/photos/cmichel67/15112861945",
        md5="cb29d11ef6e1be7e074aa58700110e4f",
        pixels=(298, 384),
        note=(
            f"The authors' crop is data/content/potrait1.jpg in {_CNNMRF}, a repository under the MIT "
            f"licence; the photographer's own terms are unknown."
        ),
    ),
    PaperPicture(
        key="self_portrait",
        title="Self-Portrait",
        author="Pablo Picasso",
        year="1907",
        figures={"li_wand2016": "fig. 6, style; run_trans.lua, picasso.jpg"},
        died=1973,
        md5="4bd9c963fd52feaa940083f07e259aea",
        note=f"The authors' crop is data/style/picasso.jpg in {_CNNMRF}.",
    ),
    PaperPicture(
        key="s",
        title="S",
        author="theilr",
        year="2011",
        figures={"li_wand2016": "fig. 6, content"},
        licence="CC BY-SA 2.0",
        urls=("https://live.staticflickr.com/7409/9270411440_cdc2ee9c35_o_d.jpg",),
        page="https://www.flickr.com/photos/theilr/9270411440/",
        md5="525550983f7fd36d3ec10fba735ad1ef",
        note="Whole; pystiche crops it (top 159, left 486, height 2157, width 1642), then scales it to 384.",
    ),
    PaperPicture(
        key="composition_viii",
        title="Composition VIII",
        author="Wassily Kandinsky",
        year="1923",
        figures={"li_wand2016": "fig. 6, style"},
        died=1944,
        urls=("https://www.wassilykandinsky.net/images/works/50.jpg",),
        md5="c39077aaa181fd40d7f2cd00c9c09619",
    ),
    PaperPicture(
        key="emma",
        title="Emma",
        author="monsieuricon (mricon)",
        year="2004",
        figures={"li_wand2016": "in pystiche's collection for the paper"},
        licence="CC BY-SA 2.0",
        urls=("https://live.staticflickr.com/1/2281680_656225393e_o_d.jpg",),
        page="https://www.flickr.com/photos/mricon/2281680/",
        md5="e3befabfd0215357e580b07e7d0ed05a",
        note="Whole; pystiche crops it (top 30, left 12, height 930, width 682), then scales it to 384.",
    ),
    PaperPicture(
        key="jenny",
        title="Jenny",
        author="Vidar Schiefloe (lydhode)",
        year="2015",
        figures={"li_wand2016": "in pystiche's collection for the paper"},
        licence="CC BY-SA 2.0",
        urls=("https://live.staticflickr.com/8626/16426686859_f882b3d317_o_d.jpg",),
        page="https://www.flickr.com/photos/lydhode/16426686859/",
        md5="387eeb2d8cd1bf19d14c263e078bb0a1",
        note=(
            "Whole; pystiche crops it (top 211, left 462, height 1843, width 1386), mirrors it and "
            "scales it to 384."
        ),
    ),
)

PAPERS: dict[str, PaperPicture] = {picture.key: picture for picture in _ENTRIES}
