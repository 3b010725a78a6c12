//! The little of SVG that charts are made of, as text; and the only place where text becomes markup. A name, a
//! note or a command line may hold anything, so whatever is not written in this folder goes through [`escape`].
//! Nothing here knows what is drawn.

use std::fmt::Write;

/// `text` as content or as a quoted attribute of HTML and SVG. Control characters, which neither may hold, are
/// replaced.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Where a text stands to its point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Anchor {
    /// To the right of it.
    Start,
    /// In the middle.
    Middle,
    /// To the left of it.
    End,
}

/// A picture that grows from back to front.
pub struct Svg {
    width: f64,
    height: f64,
    body: String,
}

impl Svg {
    /// An empty picture.
    pub fn new(width: f64, height: f64) -> Svg {
        Svg {
            width,
            height,
            body: String::new(),
        }
    }

    /// A line from one point to another.
    pub fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        self.path(class, &[from, to]);
    }

    /// A line through all points.
    pub fn path(&mut self, class: &str, points: &[(f64, f64)]) {
        if !points.is_empty() {
            self.push(format_args!("<path class=\"{class}\" d=\"{}\"/>", route(points)));
        }
    }

    /// The area that the points go around.
    pub fn area(&mut self, class: &str, points: &[(f64, f64)]) {
        if !points.is_empty() {
            self.push(format_args!("<path class=\"{class}\" d=\"{}Z\"/>", route(points)));
        }
    }

    /// A rectangle from its upper left corner.
    pub fn rect(&mut self, class: &str, at: (f64, f64), size: (f64, f64)) {
        let (x, y, width, height) = (px(at.0), px(at.1), px(size.0.max(0.0)), px(size.1.max(0.0)));
        self.push(format_args!(
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"/>"
        ));
    }

    /// A text, escaped.
    pub fn text(&mut self, class: &str, at: (f64, f64), anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let (x, y) = (px(at.0), px(at.1));
        self.push(format_args!(
            "<text class=\"{class}\" x=\"{x}\" y=\"{y}\"{anchor}>{}</text>",
            escape(text)
        ));
    }

    /// The shape of subject number `index` around a point: no two neighbours have the same, so that colour is never the
    /// only difference.
    pub fn marker(&mut self, index: usize, at: (f64, f64)) {
        let (x, y) = at;
        let corners: &[(f64, f64)] = match index % 6 {
            0 => {
                return self.push(format_args!(
                    "<circle class=\"mk\" cx=\"{}\" cy=\"{}\" r=\"3.6\"/>",
                    px(x),
                    px(y)
                ));
            }
            1 => &[(-3.3, -3.3), (3.3, -3.3), (3.3, 3.3), (-3.3, 3.3)],
            2 => &[(0.0, -4.4), (4.2, 3.2), (-4.2, 3.2)],
            3 => &[(0.0, -4.8), (4.8, 0.0), (0.0, 4.8), (-4.8, 0.0)],
            4 => &[(0.0, 4.4), (4.2, -3.2), (-4.2, -3.2)],
            _ => &[(-4.4, -2.0), (4.4, -2.0), (4.4, 2.0), (-4.4, 2.0)],
        };
        let corners: Vec<(f64, f64)> = corners.iter().map(|(dx, dy)| (x + dx, y + dy)).collect();
        self.area("mk", &corners);
    }

    /// Begins a group; with a tip, it is what a pointer on it is told.
    pub fn open(&mut self, class: &str, tip: &str) {
        let (hover, title) = match tip {
            "" => ("", String::new()),
            tip => (" m", format!("<title>{}</title>", escape(tip))),
        };
        self.push(format_args!("<g class=\"{class}{hover}\">{title}"));
    }

    /// Ends a group.
    pub fn close(&mut self) {
        self.body.push_str("</g>");
    }

    /// The picture; `label` is what it is to those who do not see it.
    pub fn finish(self, label: &str) -> String {
        format!(
            "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">{}</svg>",
            px(self.width),
            px(self.height),
            escape(label),
            self.body
        )
    }

    fn push(&mut self, text: std::fmt::Arguments) {
        // A String takes all that is written to it.
        let _ = self.body.write_fmt(text);
    }
}

/// A coordinate, to a tenth.
fn px(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

fn route(points: &[(f64, f64)]) -> String {
    let mut out = String::with_capacity(points.len() * 12);
    for (at, (x, y)) in points.iter().enumerate() {
        let sign = if at == 0 { 'M' } else { 'L' };
        let _ = write!(out, "{sign}{} {}", px(*x), px(*y));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_escapes() {
        let text = "<script>alert(\"1\" & '2')</script>\u{0}\u{1b}[31m";
        let safe = "&lt;script&gt;alert(&quot;1&quot; &amp; &#39;2&#39;)&lt;/script&gt;\u{fffd}\u{fffd}[31m";
        assert_eq!(escape(text), safe);
        assert_eq!(escape("µs – 100 %\n"), "µs – 100 %\n");
    }

    #[test]
    fn texts_tips_and_labels_are_escaped() {
        let mut svg = Svg::new(10.0, 10.0);
        svg.open("s0", "</title><b>");
        svg.text("t", (1.0, 2.0), Anchor::End, "<b>");
        svg.close();
        let text = svg.finish("\"><b>");
        assert!(!text.contains("<b>"), "{text}");
        assert_eq!(text.matches("&lt;b&gt;").count(), 3, "{text}");
    }

    #[test]
    fn coordinates_are_short() {
        assert_eq!((px(3.0), px(2.06), px(-0.04)), ("3".into(), "2.1".into(), "-0".into()));
        assert_eq!(route(&[(0.0, 1.0), (2.5, 3.0)]), "M0 1L2.5 3");
    }
}
