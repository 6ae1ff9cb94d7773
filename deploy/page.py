"""The demo's page: one HTML file that needs nothing beside it, from plain records.

It computes nothing and runs no script: what is shown is what the records say.
"""

from collections.abc import Sequence

from openreel.deploy.charts import Curve, curve_chart, pack_chart, pack_legend
from openreel.deploy.checker import Score
from openreel.deploy.markup import (
    Markup,
    data_uri,
    document,
    duration,
    element,
    head,
    picture,
    row,
    scroll,
    together,
)
from openreel.deploy.page_data import (
    Captioned,
    Captioning,
    Checks,
    ClipCard,
    Curation,
    Packing,
    Page,
    Reconstruction,
    Run,
    Said,
    Video,
)
from openreel.pipeline.media import Frames

POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
"""what the browser may load: nothing from outside the page"""


def render(page: Page) -> str:
    """The whole document."""
    sections = {
        "videos": ("Generated videos", _videos(page.videos)),
        "checks": ("Do they show what was asked?", _checks(page.checks)),
        "run": ("The run", _run(page.run)),
        "clips": ("Clips", _clips(page.curation)),
        "captions": ("Captions beside the truth", _captions(page.captioning)),
        "reconstructions": ("Through the autoencoder", _rebuilt(page.reconstructions)),
        "packing": ("Packing", _packing(page.packing)),
        "curves": ("Training", _curves(page.curves)),
    }
    lead = (
        "From a folder of raw videos to a text-to-video model and three videos of three shapes, "
        f"in {duration(sum(s for _, s in page.run.seconds))} on this machine. The denoiser saw "
        "each clip in its own shape: none was cropped, squared or bucketed."
    )
    return document(
        title="openreel demo",
        top=(element("h1", "openreel"), element("p", lead, class_="lead")),
        sections=sections,
        styles=("page",),
        policy=POLICY,
        scheme=False,
    )


def _videos(videos: Sequence[Video]) -> Markup:
    return element("div", *map(_video, videos), class_="videos")


def _video(video: Video) -> Markup:
    player = element(
        "video",
        src=data_uri(video.content, "video/mp4"),
        width=video.width,
        height=video.height,
        style=f"width:calc({video.width}px * var(--zoom))",
        controls=True,
        loop=True,
        muted=True,
        autoplay=True,
        playsinline=True,
    )
    links = [
        element("a", "MP4", href=video.link),
        element("a", "sidecar", href=video.sidecar),
    ]
    caption = element(
        "figcaption",
        element("h3", f"“{video.prompt}”"),
        element("p", "expanded to: ", element("q", video.expanded)),
        element("p", video.size_in_words, element("br"), video.facts, class_="quiet"),
        element("p", *links, class_="links"),
    )
    return element("figure", element("div", player, class_="screen"), caption)


def _checks(checks: Checks) -> Markup:
    number = len(checks.trained)
    note = (
        f"{number} short prompts, one small square video each. A program judged the pixels: the "
        "hue of the most saturated area, its outline, the way of its centre. It is no person and "
        "can err. “Untrained” is the same network with random weights, given the same "
        "prompts and noise. The prompts combine words that the training captions use."
    )
    trained, untrained = checks.trained_summary, checks.untrained_summary
    rows = [
        _summary_row("colour", trained.colour, untrained.colour),
        _summary_row("shape", trained.shape, untrained.shape),
        _summary_row("direction", trained.direction, untrained.direction),
        _summary_row("all three", trained.all, untrained.all),
    ]
    summary = element("table", head("right", "trained", "untrained"), *rows, class_="summary")
    pairs = zip(checks.trained, checks.untrained, strict=True)
    table = element(
        "table",
        head("prompt", "seen, trained", "seen, untrained"),
        *[row(element("b", a.prompt), _seen(a), _seen(b)) for a, b in pairs],
        class_="wide",
    )
    opened = element("details", element("summary", "prompt by prompt"), scroll(table), open=True)
    return together(element("p", note, class_="note"), summary, opened)


def _summary_row(name: str, trained: float, untrained: float) -> Markup:
    return row(name, _meter(trained, "trained"), _meter(untrained, "untrained"))


def _meter(share: float, kind: str) -> Markup:
    bar = element("i", style=f"width:{100 * share:.1f}%", class_=kind)
    track = element("span", bar, class_="track")
    return element("span", track, element("b", f"{100 * share:.0f} %"), class_="meter")


def _seen(score: Score) -> Markup:
    parts = [
        (score.seen_colour, score.colour),
        (score.seen_shape, score.shape),
        (score.seen_direction, score.direction),
    ]
    return together(*[_mark(text, right) for text, right in parts])


def _mark(text: str, right: bool) -> Markup:
    """A judged word; the sign says what the colour says."""
    sign = element("span", "✓ " if right else "✗ ")
    return element("span", sign, text, class_="chip good" if right else "chip bad")


def _run(run: Run) -> Markup:
    longest = max((seconds for _, seconds in run.seconds), default=1.0) or 1.0
    rows = []
    for name, seconds in run.seconds:
        bar = element("i", style=f"width:{100 * seconds / longest:.1f}%")
        track = element("span", bar, class_="track")
        rows.append(row(name, track, element("span", duration(seconds), class_="number")))
    total = duration(sum(seconds for _, seconds in run.seconds))
    rows.append(row("total", "", element("b", total, class_="number")))
    facts = [together(element("dt", name), element("dd", value)) for name, value in run.versions]
    return element(
        "div",
        element("div", element("pre", run.command), element("dl", *facts)),
        element("table", *rows, class_="seconds"),
        class_="columns",
    )


def _clips(curation: Curation) -> Markup:
    funnel = element(
        "table",
        head("table", "ok", "rejected", "failed"),
        *[row(name, *counts) for name, *counts in curation.funnel],
        class_="funnel",
    )
    used = element("p", f"{curation.seconds_used:.1f} s of clips are used.", class_="note")
    parts = [used, funnel, element("div", *map(_card, curation.cards), class_="cards")]
    if curation.refused:
        refused = element(
            "table",
            head("file", "status", "reason"),
            *[row(file.name, file.status, file.reason) for file in curation.refused],
            class_="wide",
        )
        parts += [element("h3", "Files of which nothing is used"), scroll(refused)]
    return together(*parts)


def _card(card: ClipCard) -> Markup:
    shown = element("span", "not readable any more", class_="quiet")
    if card.frame is not None:
        shown = picture(card.frame, card.name)
    verdict = card.status if card.status == "ok" else f"{card.status}: {card.reason}"
    good = "good" if card.status == "ok" else "bad"
    caption = element(
        "figcaption",
        element("span", card.name, class_="name"),
        element("span", card.facts, class_="quiet"),
        element("span", verdict, class_=f"verdict {good}"),
    )
    return element("figure", element("div", shown, class_="screen"), caption)


def _captions(captioning: Captioning) -> Markup:
    note = "No clip came with a text to compare with."
    if captioning.exact_short is not None and captioning.exact_dense is not None:
        note = (
            f"Of {captioning.num_compared} clips that came with texts, "
            f"{100 * captioning.exact_short:.0f} % of the short captions and "
            f"{100 * captioning.exact_dense:.0f} % of the dense ones are the truth word for word. "
            "The captioner was trained on these texts, so this says how well it learnt them, not "
            "how well it would do elsewhere. Underlined words differ from the truth."
        )
    if captioning.num_flawed:
        note += (
            f" {captioning.num_flawed} captions have a flaw, such as a word many times running: "
            "they are kept on record, and only texts that came with those files are used."
        )
    examples = [
        element(
            "article",
            _strip(example.frames, "clip"),
            element(
                "dl",
                together(element("dt", "truth"), element("dd", _truth(example))),
                together(element("dt", "short"), element("dd", _said(example.short))),
                together(element("dt", "dense"), element("dd", _said(example.dense))),
            ),
        )
        for example in captioning.examples
    ]
    return together(element("p", note, class_="note"), element("div", *examples, class_="captions"))


def _truth(example: Captioned) -> Markup:
    if example.truth:
        return together(example.truth)
    return element("span", "no text came with the file", class_="quiet")


def _said(said: Said) -> Markup:
    words: list[Markup] = []
    for word, agreed in said.words:
        shown = element("u", word) if agreed is False else together(word)
        words += [shown, together(" ")]
    marks = [agreed for _, agreed in said.words if agreed is not None]
    if marks:
        words.append(_mark(f"{sum(marks)} of {len(marks)} words", all(marks)))
    if said.flaw:
        words.append(_mark(f"not used: {said.flaw}", False))
    return together(*words)


def _strip(frames: Frames, description: str) -> Markup:
    shown = [picture(f, f"{description}, frame {i + 1}") for i, f in enumerate(frames)]
    return element("div", *shown, class_="strip")


def _rebuilt(reconstructions: Sequence[Reconstruction]) -> Markup:
    note = (
        "Above: frames of a clip as they were read. Below: the same frames decoded from the "
        "latents that the denoiser is trained on. PSNR is over all frames of the clip."
    )
    pairs = [
        element(
            "figure",
            _strip(item.original, "original"),
            _strip(item.decoded, "decoded"),
            element("figcaption", element("b", f"{item.psnr:.1f} dB"), f" · {item.facts}"),
        )
        for item in reconstructions
    ]
    return together(element("p", note, class_="note"), element("div", *pairs, class_="pairs"))


def _packing(packing: Packing) -> Markup:
    note = (
        f"Each bar is one pack of at most {packing.capacity:,} tokens. Each block is one clip or "
        "image at its own size, labelled frames × rows × columns in tokens; attention stays "
        f"within a block. {packing.num_packs} packs in a row are "
        f"{100 * packing.mean_fill:.1f} % full on average."
    )
    chart = pack_chart(packing.packs, packing.capacity)
    return together(element("p", note, class_="note"), pack_legend(), scroll(chart))


def _curves(curves: Sequence[Curve]) -> Markup:
    drawn = [
        element("figure", element("figcaption", curve.name), curve_chart(curve)) for curve in curves
    ]
    return element("div", *drawn, class_="curves")
