// The list of slides: search, order, choice by mouse and keys.

const byName = new Intl.Collator("en", { numeric: true });
const element = (id) => document.getElementById(id);

export class List {
  /** `open(number)` is called with the slide that was chosen. */
  constructor(catalogue, open) {
    this.catalogue = catalogue;
    this.open = open;
    this.shown = [];
    this.cursor = -1;
    this.opened = -1;
    this.box = element("list");
    const by = element("said-by");
    const runs = [...catalogue.runs.entries()].filter(([, run]) => run.said.length > 0);
    const names = short(runs.map(([, run]) => run.name));
    runs.forEach(([number], place) => by.add(new Option(names[place], number)));
    if (by.options.length === 0) by.add(new Option("no run", ""));
    by.disabled = by.options.length < 2;
    element("search").addEventListener("input", () => this.fill());
    element("sort").addEventListener("change", () => this.fill());
    by.addEventListener("change", () => this.fill());
    this.box.addEventListener("click", (event) => {
      const row = event.target.closest("li");
      if (row) this.choose(Number(row.dataset.place));
    });
    this.fill();
  }

  /** What the run of the scores says of each slide, by number. */
  said() {
    const run = this.catalogue.runs[element("said-by").value];
    const said = new Map();
    for (const [slide, label, predicted, probability] of run?.said ?? []) {
      said.set(slide, {
        label: run.classes[label] ?? "",
        predicted: run.classes[predicted] ?? "",
        probability,
        wrong: label >= 0 && label !== predicted,
      });
    }
    return said;
  }

  fill() {
    const said = this.said();
    const words = element("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = this.catalogue.slides.map(([id, there], number) => ({ id, there, number, said: said.get(number) }));
    const text = ({ id, said }) => `${id} ${said?.label ?? ""} ${said?.predicted ?? ""}`.toLowerCase();
    this.rows = rows.filter((row) => words.every((word) => text(row).includes(word)));
    const name = (a, b) => byName.compare(a.id, b.id);
    const score = (a, b) => (a.said?.probability ?? 2) - (b.said?.probability ?? 2) || name(a, b);
    const wrong = ({ said }) => Number(said?.wrong ?? false);
    const orders = {
      name,
      label: (a, b) => byName.compare(a.said?.label || "\uffff", b.said?.label || "\uffff") || name(a, b),
      score,
      error: (a, b) => wrong(b) - wrong(a) || score(a, b),
    };
    this.rows.sort(orders[element("sort").value]);
    this.box.replaceChildren(...this.rows.map((row, place) => this.row(row, place)));
    const [found, all] = [this.rows.length, this.catalogue.slides.length];
    const mistakes = said.size > 0 ? `, ${this.rows.filter(wrong).length} wrong` : "";
    element("count").textContent = `${found === all ? all : `${found} of ${all}`} slides${mistakes}`;
    this.move(this.rows.findIndex((row) => row.number === this.opened), false);
  }

  row({ id, there, number, said }, place) {
    const row = document.createElement("li");
    row.id = `slide-${number}`;
    row.dataset.place = place;
    row.setAttribute("role", "option");
    row.setAttribute("aria-selected", number === this.opened);
    row.append(id);
    const line = document.createElement("small");
    const parts = [];
    if (said) parts.push(describe(said));
    if (!there) parts.push("no slide file");
    line.textContent = parts.join(" · ");
    line.classList.toggle("wrong", said?.wrong ?? false);
    row.append(line);
    return row;
  }

  /** Puts the keyboard's mark on a row. */
  move(place, scroll = true) {
    this.box.querySelector(".cursor")?.classList.remove("cursor");
    this.cursor = Math.max(-1, Math.min(place, this.rows.length - 1));
    const row = this.box.children[this.cursor];
    if (!row) return this.box.removeAttribute("aria-activedescendant");
    row.classList.add("cursor");
    this.box.setAttribute("aria-activedescendant", row.id);
    if (scroll) row.scrollIntoView({ block: "nearest" });
  }

  step(by) {
    this.move(this.cursor < 0 ? 0 : Math.max(0, this.cursor + by));
  }

  /** Opens the row with the mark, or that of a place. */
  choose(place = this.cursor) {
    const row = this.rows[place];
    if (row) this.open(row.number);
  }

  /** Marks the slide that is open. */
  mark(number) {
    this.opened = number;
    this.box.querySelector("[aria-selected=true]")?.setAttribute("aria-selected", "false");
    element(`slide-${number}`)?.setAttribute("aria-selected", "true");
    this.move(this.rows.findIndex((row) => row.number === number));
  }
}

/** Names of runs less the folders that all of them are in. */
export function short(names) {
  const folders = names.map((name) => name.split("/").slice(0, -1));
  let same = 0;
  while (names.length > 1 && folders.every((parts) => parts.length > same && parts[same] === folders[0][same])) same += 1;
  return names.map((name) => name.split("/").slice(same).join("/"));
}

/** What a run says of a slide, in words. */
export function describe({ label, predicted, probability, wrong }) {
  const sure = Number.isFinite(probability) && probability !== null ? ` ${probability.toFixed(2)}` : "";
  if (!label) return `predicted ${predicted}${sure}`;
  return wrong ? `✗ ${label}${sure}, predicted ${predicted}` : `✓ ${label}${sure}`;
}
