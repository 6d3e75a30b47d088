"""The page's style sheet: one column on a phone, light and dark, readable on paper."""

from __future__ import annotations

_SHADES = "".join(f".s{step}{{fill-opacity:{0.12 + 0.88 * step / 9:.2f}}}" for step in range(1, 10))

STYLE = (
    """
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--muted:#5b6570;--line:#d9dee3;--track:#eef1f4;
--a:#2166ac;--ref:#98a2ad;--good:#1b7837;--bad:#b2182b;--warn:#8a5a00;--band:#bcd4ea;--card:#f6f8fa}
@media (prefers-color-scheme:dark){:root{--bg:#14171b;--fg:#e4e8ec;--muted:#98a2ad;--line:#30373f;
--track:#20262c;--a:#63a7e6;--ref:#6d7883;--good:#5bbd7a;--bad:#ef6f6c;--warn:#e0ad4a;--band:#2c4963;
--card:#1b2026}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--fg);font:16px/1.5 system-ui,sans-serif}
main{max-width:62rem;margin:0 auto;padding:1.2rem 1rem 3rem;overflow-wrap:anywhere}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2.2rem 0 .5rem;padding-top:.8rem;
border-top:1px solid var(--line)}
p{margin:.4rem 0}.muted{color:var(--muted)}p.warn{color:var(--warn)}
.badge{font-size:.8rem;padding:.15rem .55rem;border-radius:1rem;border:1px solid;
vertical-align:middle;white-space:nowrap}
.badge.good{color:var(--good)}.badge.bad{color:var(--bad)}
.badge.warn{color:var(--warn)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.5rem,1fr));gap:.6rem;margin-top:.9rem}
.card{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.5rem .75rem}
.card span,.card i{display:block;color:var(--muted);font-size:.8rem;
font-style:normal;min-height:1.2em}
.card b{font-size:1.25rem;font-variant-numeric:tabular-nums}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(20rem,100%),1fr));
gap:.4rem 2rem;align-items:start}
figure{margin:.6rem 0;max-width:30rem}
figcaption{color:var(--muted);font-size:.85rem;margin-bottom:.3rem}
svg{display:block;width:100%;height:auto;font:11px system-ui,sans-serif}
svg text{fill:var(--muted)}svg text.strong{fill:var(--fg);font-variant-numeric:tabular-nums}
.track{fill:var(--track)}.a{fill:var(--a)}.ref{fill:var(--ref)}.good{fill:var(--good)}.bad{fill:var(--bad)}
.band{fill:var(--band)}.rule{stroke:var(--track);stroke-width:2}.way{stroke-width:2;stroke:var(--a)}
.way.bad{stroke:var(--bad)}.hollow{fill:var(--bg);stroke:var(--ref);stroke-width:2}
.axis{stroke:var(--muted)}.dashed{stroke-dasharray:3 3}
.hit{fill:var(--a)}.miss{fill:var(--bad)}svg text.cell{font-size:9px;fill:var(--fg)}
svg text.cell.deep{fill:var(--bg)}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.88rem;margin:.5rem 0}
td,th{text-align:left;padding:.25rem .6rem .25rem 0;border-bottom:1px solid var(--line);
vertical-align:top}th{color:var(--muted);font-weight:500;overflow-wrap:normal}
td:not(.n){min-width:6.8rem}
td.n,th.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
@media print{h2{break-after:avoid}figure,table{break-inside:avoid}}
"""
    + _SHADES
)
