//! The picture's style sheet. Plain rules, no variables: some viewers know none.

/// Rules for light, then what dark changes.
pub(super) const SHEET: &str = r#"
text{font-family:"Inter","Segoe UI","Helvetica Neue",Arial,"DejaVu Sans",sans-serif;fill:#1c2430}
.title{font-size:22px;font-weight:700}
.name{font-size:14px;font-weight:700}
.small{font-size:11.5px;font-weight:700}
.mono{font-family:ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:11px}
.dim{fill:#5d6877}
.alarm{fill:#c2261a;font-weight:700}
.paper{fill:#fff}
.box{stroke-width:1.5}
.thing{fill:#f4f6f9;stroke:#7b8794;stroke-width:1.3}
.mark{fill:none;stroke:#7b8794;stroke-width:1.3}
.dot{fill:#7b8794}
.outside{fill:#fff;stroke:#7b8794;stroke-width:1.3;stroke-dasharray:4 3}
.e0{fill:#e2f4e9;stroke:#2b945c}.s0{fill:#2b945c}
.e1{fill:#eff5d4;stroke:#86a01c}.s1{fill:#86a01c}
.e2{fill:#fdf2c8;stroke:#cf9b10}.s2{fill:#cf9b10}
.e3{fill:#fde4cc;stroke:#dd7417}.s3{fill:#dd7417}
.e4{fill:#fbdad6;stroke:#cc3527}.s4{fill:#cc3527}
.badge{font-size:11px;font-weight:700;fill:#fff}
.edge{fill:none}
.channel{stroke:#3b5bdb;stroke-width:2.2}.channelhead{fill:#3b5bdb}
.pipe{stroke:#0b7f8c;stroke-width:6}.pipehead{fill:#0b7f8c}
.bore{fill:none;stroke:#fff;stroke-width:2.6}
.signal{stroke:#b8285f;stroke-width:1.7;stroke-dasharray:6 4}.signalhead{fill:#b8285f}
.grant{stroke:#7b8794;stroke-width:1.3}.granthead{fill:#7b8794}
.much{font-weight:700}
.flow{opacity:.28;stroke-dasharray:none}
.w1{stroke-width:5}.w2{stroke-width:8}.w3{stroke-width:11}.w4{stroke-width:15}.w5{stroke-width:19}
.idle{opacity:.45}
.pill{fill:#fff;stroke-width:1.1;stroke-dasharray:none}
.rule{stroke:#d5dae1;stroke-width:1}
@media (prefers-color-scheme:dark){
text{fill:#e6eaf0}
.dim{fill:#9aa5b4}
.alarm{fill:#ff8f84}
.paper,.outside,.pill{fill:#14181f}
.thing{fill:#1e242d;stroke:#8c97a6}
.mark,.outside{stroke:#8c97a6}
.dot{fill:#8c97a6}
.e0{fill:#143322;stroke:#43b578}
.e1{fill:#29330f;stroke:#a6c23a}
.e2{fill:#3a2f0b;stroke:#e0b02e}
.e3{fill:#40270f;stroke:#f0913c}
.e4{fill:#461b17;stroke:#f0685b}
.badge{fill:#fff}
.channel{stroke:#8ba2ff}.channelhead{fill:#8ba2ff}
.pipe{stroke:#3fc1cf}.pipehead{fill:#3fc1cf}
.bore{stroke:#14181f}
.signal{stroke:#f27aa8}.signalhead{fill:#f27aa8}
.grant{stroke:#8c97a6}.granthead{fill:#8c97a6}
.rule{stroke:#323a46}
}
"#;
