"""How the page looks: light and dark, wide and narrow, on paper. Texts have a contrast of 4.5."""

CSS = """
:root{color-scheme:light dark;--ink:#1b1d1f;--soft:#555b61;--paper:#fff;--box:#f4f5f6;
--line:#c9cdd1;--good:0,122,90;--bad:196,64,20;--accent:#0b57d0}
@media (prefers-color-scheme:dark){:root{--ink:#e8eaed;--soft:#a9b0b8;--paper:#15171a;--box:#202327;
--line:#454b52;--good:0,150,110;--bad:214,84,40;--accent:#8ab4f8}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:70rem;padding:1rem;font:1rem/1.5 system-ui,sans-serif;color:var(--ink);
background:var(--paper);overflow-wrap:anywhere}
h1{font-size:1.6rem;line-height:1.25;margin:.5rem 0}
h2{font-size:1.25rem;margin:2.5rem 0 .5rem;border-top:1px solid var(--line);padding-top:1.25rem}
p{max-width:46rem;margin:.5rem 0}
a{color:var(--accent)}
.soft,figcaption,caption{color:var(--soft)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(16rem,1fr));gap:1rem;margin:1rem 0}
.card{background:var(--box);border-radius:.5rem;padding:1rem}
.card h3{margin:0;font-size:1rem}
.card p{margin:.25rem 0 0}
.big{font-size:2.25rem;font-weight:650;line-height:1.2}
.wide{overflow-x:auto;margin:1rem 0}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
caption{text-align:left;padding-bottom:.5rem}
caption span{display:block;max-width:min(46rem,calc(100vw - 2rem))}
th[scope=row]{position:sticky;left:0;z-index:1;background:var(--paper)}
th,td{padding:.3rem .6rem;border-bottom:1px solid var(--line);text-align:right;vertical-align:top;
overflow-wrap:normal}
th{font-weight:600}
th[scope=row],thead th:first-child,td.text,th.text{text-align:left}
th[scope=row]{min-width:6rem;max-width:16rem;overflow-wrap:break-word}
.figures{white-space:nowrap}
.matrix th,.matrix td{padding:.3rem .45rem}
.matrix thead th{vertical-align:bottom}
.matrix thead th+th{writing-mode:vertical-rl;text-align:left;max-height:11rem;
overflow-wrap:break-word}
.matrix td{min-width:2.25rem}
td.hit{font-weight:650}
.bar{display:block;position:relative;height:.5rem;width:8rem;margin-top:.45rem;background:var(--box);
border:1px solid var(--line);border-radius:.25rem}
.bar i{position:absolute;top:0;bottom:0;background:rgb(var(--good));opacity:.4}
.bar b{position:absolute;top:-3px;bottom:-3px;width:3px;background:var(--ink)}
.pictures{display:grid;grid-template-columns:repeat(auto-fill,minmax(9rem,1fr));gap:1rem;
list-style:none;margin:1rem 0;padding:0}
.pairs{grid-template-columns:repeat(auto-fill,minmax(17rem,1fr))}
figure{margin:0}
figure img,.none{width:100%;aspect-ratio:1;object-fit:contain;background:var(--box);
border-radius:.375rem;display:block}
.none{display:grid;place-items:center;padding:.5rem;color:var(--soft);text-align:center}
.two{display:grid;grid-template-columns:1fr 1fr;gap:.25rem}
figcaption{font-size:.875rem;line-height:1.35;margin-top:.35rem}
figcaption strong{color:var(--ink)}
.path{display:block;font-size:.8125rem}
@media (max-width:30rem){.pictures{grid-template-columns:repeat(2,1fr)}
.pairs{grid-template-columns:1fr}th,td{padding:.3rem .4rem}}
@media print{body{max-width:none;padding:0;font-size:10pt}figure,tr,.card{break-inside:avoid}
.wide{overflow:visible}h2{break-after:avoid}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}
.pictures{grid-template-columns:repeat(5,1fr)}.pairs{grid-template-columns:repeat(3,1fr)}}
"""
