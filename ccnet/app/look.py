"""How the page looks: fonts and colors that need no other host, and the style of our own parts."""

from gradio.themes.base import Base

FONT = ["system-ui", "sans-serif"]
MONO = ["ui-monospace", "monospace"]
THEME = Base(primary_hue="teal", neutral_hue="slate", font=FONT, font_mono=MONO, radius_size="sm")
CSS = """
header.ccnet h1 { font-size: 1.5rem; font-weight: 650; margin: 4px 0; }
header.ccnet p { margin: 0; max-width: 90ch; }
header.ccnet a { float: right; margin: 8px 0; text-decoration: underline; }
.notice { padding: 8px 12px; margin: 0; border-left: 4px solid var(--color-accent);
  background: var(--background-fill-secondary); overflow-wrap: anywhere; }
.notice.error { border-color: #b42318; background: #b4231818; }
.shares table, .pixel table { width: 100%; border: none !important;
  border-collapse: collapse; font-size: 0.9rem; }
.shares caption, .pixel caption { text-align: left; padding: 2px 0; overflow-wrap: anywhere; }
.shares :is(th, td), .pixel :is(th, td) { border: none !important; text-align: left;
  font-weight: 400; padding: 3px 6px 3px 0 !important; }
.shares :is(thead, tbody), .pixel tbody { border: none !important; }
.shares tr, .pixel tr { border: none !important;
  border-bottom: 1px solid var(--border-color-primary) !important; }
.shares th, .pixel th { overflow-wrap: anywhere; }
.shares thead th { font-weight: 600; }
.shares td, .pixel td { white-space: nowrap; width: 58%; font-variant-numeric: tabular-nums; }
.swatch { display: inline-block; width: 1.1em; height: 1.1em; margin-right: 8px;
  vertical-align: -0.2em; border: 1px solid #0008; border-radius: 2px; }
.bar { display: inline-block; width: calc(100% - 4.6em); height: 0.7em; margin-right: 0.6em;
  background: var(--background-fill-secondary); border: 1px solid var(--border-color-primary); }
.bar span { display: block; height: 100%; background: var(--color-accent); }
.absent, .facts { margin: 6px 0 0; font-size: 0.85rem; overflow-wrap: anywhere; }
.pixel { display: flex; flex-wrap: wrap; gap: 24px; }
.pixel > div:first-child { flex: 1 1 240px; max-width: 420px; }
.pixel h3 { font-size: 1.1rem; font-weight: 600; margin: 4px 0; }
.maps { flex: 3 1 420px; display: grid; gap: 16px;
  grid-template-columns: repeat(auto-fit, minmax(180px, 1fr)); }
.maps figure { margin: 0; }
.maps img { width: 100%; border-radius: 4px; }
.maps figcaption { font-size: 0.9rem; padding: 4px 0; }
.scale { grid-column: 1 / -1; font-size: 0.85rem; display: flex; align-items: center; gap: 8px; }
.scale span { flex: 0 1 240px; height: 0.8em; border: 1px solid var(--border-color-primary); }
#examples .grid-container { grid-template-columns: repeat(3, minmax(0, 1fr)) !important; }
#examples .grid-wrap { padding-top: 28px; }
#examples .thumbnail-item { min-width: 0; width: 100%; }
#files td:last-child { display: none; }
:is(#picture-0, #picture-1) img { cursor: crosshair; }
"""
