//! Where registers are in the packet `g`, as a target's description says (GDB's manual, "Target Description Format"): one
//! behind the other, in the order of the description. Pure.
//!
//! A description is its files by name: `target.xml`, and those that it includes.

use std::collections::BTreeMap;
use std::ops::Range;

/// The file that all others are included by.
pub const TARGET: &str = "target.xml";

/// Where each register is in the packet, in bytes.
#[derive(Debug)]
pub struct Layout(BTreeMap<String, Range<usize>>);

impl Layout {
    /// As this description says.
    pub fn of(description: &BTreeMap<String, String>) -> Layout {
        let mut places = BTreeMap::new();
        let mut at = 0_usize;
        for (register, bits) in registers(description) {
            let Some(end) = usize::try_from(bits / 8).ok().and_then(|size| at.checked_add(size)) else { break };
            places.entry(register.to_string()).or_insert(at..end);
            at = end;
        }
        Layout(places)
    }

    /// A register of up to eight bytes.
    pub fn value(&self, packet: &[u8], name: &str) -> Option<u64> {
        let place = self.0.get(name)?;
        let mut bytes = [0; 8];
        bytes.get_mut(..place.len())?.copy_from_slice(packet.get(place.clone())?);
        Some(u64::from_le_bytes(bytes))
    }

    /// Sets a register of up to eight bytes; none where the packet has no place for it.
    pub fn set(&self, packet: &mut [u8], name: &str, value: u64) -> Option<()> {
        let place = self.0.get(name)?;
        packet.get_mut(place.clone())?.copy_from_slice(value.to_le_bytes().get(..place.len())?);
        Some(())
    }
}

/// All registers with their sizes in bits, in order.
fn registers(description: &BTreeMap<String, String>) -> Vec<(&str, u32)> {
    let target = description.get(TARGET).map(String::as_str).unwrap_or_default();
    let mut found = in_file(target);
    for file in includes(target) {
        found.extend(description.get(file).map(|text| in_file(text)).unwrap_or_default());
    }
    found
}

/// The files that a description includes.
pub fn includes(target: &str) -> Vec<&str> {
    let included = elements(target).into_iter().filter(|element| element.starts_with("xi:include "));
    included.filter_map(|element| attribute(element, "href")).collect()
}

fn in_file(text: &str) -> Vec<(&str, u32)> {
    let of = elements(text).into_iter().filter(|element| element.starts_with("reg "));
    of.filter_map(|element| Some((attribute(element, "name")?, attribute(element, "bitsize")?.parse().ok()?))).collect()
}

/// What is between `<` and `>`, comments left out.
fn elements(mut text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    while let Some((_, rest)) = text.split_once('<') {
        let end = if rest.starts_with("!--") { "-->" } else { ">" };
        let Some((element, behind)) = rest.split_once(end) else { break };
        if end == ">" {
            found.push(element);
        }
        text = behind;
    }
    found
}

fn attribute<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = element.split_once(&format!("{name}=\""))?;
    rest.split_once('"').map(|(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_lie_behind_each_other_and_those_in_comments_are_none() {
        let target = r#"<?xml version="1.0"?><target><xi:include href="a.xml"/><xi:include href="b.xml"/></target>"#;
        let a = r#"<feature name="x"><reg name="rax" bitsize="64" type="int64"/><!--reg name="cs_base" bitsize="64"/>
            <reg name="ds_base" bitsize="64"/--><flags id="f" size="4"><field name="A" start="0" end="0"/></flags>
            <reg name="eflags" bitsize="32" type="f"/></feature>"#;
        let b = r#"<reg name="st0" bitsize="80" type="i387_ext"/><reg name="cr3" bitsize="64"/>"#;
        let files = [("target.xml", target), ("a.xml", a), ("b.xml", b)];
        let description = files.map(|(name, text)| (name.to_string(), text.to_string())).into();
        assert_eq!(includes(target), ["a.xml", "b.xml"]);
        let layout = Layout::of(&description);
        assert_eq!(layout.0.get("eflags"), Some(&(8..12)));
        assert_eq!(layout.0.get("cr3"), Some(&(22..30)));
        assert_eq!(layout.0.get("ds_base"), None);
        let mut packet: Vec<u8> = (0..30).collect();
        assert_eq!(layout.value(&packet, "eflags"), Some(0x0b0a_0908));
        assert_eq!(layout.value(&packet[..29], "cr3"), None, "cut off");
        assert_eq!(layout.value(&packet, "st0"), None, "longer than a number");
        assert_eq!(layout.set(&mut packet, "eflags", 0x1234_5678), Some(()));
        assert_eq!(packet[7..13], [7, 0x78, 0x56, 0x34, 0x12, 12]);
        assert_eq!(layout.set(&mut packet, "st0", 0), None);
    }
}
