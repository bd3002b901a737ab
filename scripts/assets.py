"""`headlab assets`: list, add and check the files that only their authors may give out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from ..geometry.errors import HeadlabError

# headlab.heads is imported by the commands themselves: it loads torch, which would make every `--help` slow.


@dataclass(frozen=True)
class ListAssets:
    """Show every asset headlab can use: whether it is there, its terms, and where to get it."""

    def run(self) -> None:
        from ..heads.assets import assets_folder, list_assets

        print(f"assets folder: {assets_folder()}")
        for asset in list_assets():
            print(f"\n{asset.kind.id:16} {asset.state:12} {asset.kind.title}")
            print(f"{'':16} {_terms(asset)}")
            print(f"{'':16} {asset.kind.upstream}: {asset.kind.license.url}")


@dataclass(frozen=True)
class AddAsset:
    """Recognise a file by its contents, check it, and copy it into the assets folder."""

    file: Annotated[Path, tyro.conf.Positional]
    """The file as its authors ship it, a zip of such files, or the folder of an ICT-FaceKit clone."""
    kind: str | None = None
    """Which asset it is, where the contents do not tell (flame2020 or flame2023)."""

    def run(self) -> None:
        from ..heads.assets import add_asset, still_missing

        for asset in add_asset(self.file, self.kind):
            print(f"added {asset.kind.id}: {asset.path}")
            print(f"  {asset.kind.title}; {_terms(asset)}")
            for kind in still_missing(asset.kind.id):
                print(f"  still missing to go with it: {kind.title} ({kind.id}), {kind.upstream} at {kind.license.url}")
            if asset.kind.id.startswith("flame20") and self.kind is None:
                print("  the release is taken from the file's name; say --kind flame2020 or flame2023 if it is wrong")


@dataclass(frozen=True)
class CheckAssets:
    """Compute the checksums of all added files anew and compare them."""

    def run(self) -> None:
        from ..heads.assets import check_assets

        checked = check_assets()
        for asset in checked:
            print(f"{asset.kind.id:16} {'ok' if asset.state == 'present' else asset.state}")
        bad = [asset for asset in checked if asset.state != "present"]
        if bad:
            names = ", ".join(f"{asset.kind.id} ({asset.state})" for asset in bad)
            raise HeadlabError(f"{len(bad)} of {len(checked)} assets are not what was added: {names}; add them again")
        print(f"{len(checked)} assets checked" if checked else "no assets added yet; see `headlab assets list`")


@dataclass(frozen=True)
class Assets:
    """List, add and check head models and networks that only their authors may give out."""

    command: tyro.conf.OmitSubcommandPrefixes[
        Annotated[ListAssets, tyro.conf.subcommand("list")]
        | Annotated[AddAsset, tyro.conf.subcommand("add")]
        | Annotated[CheckAssets, tyro.conf.subcommand("check")]
    ]

    def run(self) -> None:
        self.command.run()


def _terms(asset: Any) -> str:
    use = "commercial use allowed" if asset.kind.license.commercial else "no commercial use"
    return f"{asset.kind.license.name}; {use}"
