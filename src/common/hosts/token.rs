//! One word of a host list.

use core::net::Ipv6Addr;

use super::error::clip;
use super::{
    DEFAULT_LOCALHOST_SLOTS, DEFAULT_PORT, DEFAULT_SLOTS, Host, HostList, HostsErrorKind as Kind, Transport,
};
use crate::common::bytes::Bytes;
use crate::common::limits::HOST_SLOTS_MAX;

/// The longest host name, in bytes: what DNS allows.
const NAME_MAX_BYTES: usize = 253;

/// Reads a word into the list.
pub(super) fn read(word: &[u8], list: &mut HostList, odd: &mut Vec<Kind>) -> Result<(), Kind> {
    match word {
        b"--randomize" => list.randomize = true,
        b"+zeroconf" => list.zeroconf = true,
        b"--localslots" | b"--localslots_cpp" => odd.push(Kind::NoNumber),
        word if word.starts_with(b"--randomize") => {
            list.randomize = true;
            odd.push(Kind::BadListOption);
        }
        [b'-' | b'+', ..] => {
            if let Some(number) = numbered(word, b"--localslots_cpp") {
                list.localslots_cpp = Some(slots(number)?);
            } else if let Some(number) = numbered(word, b"--localslots") {
                list.localslots = Some(slots(number)?);
            } else {
                return Err(Kind::BadListOption);
            }
        }
        word => read_host(word, list, odd)?,
    }
    Ok(())
}

/// What stands behind `NAME=` or `NAME/`.
fn numbered<'a>(word: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    match word.strip_prefix(name)? {
        [b'=' | b'/', number @ ..] => Some(number),
        _ => None,
    }
}

fn read_host(word: &[u8], list: &mut HostList, odd: &mut Vec<Kind>) -> Result<(), Kind> {
    if word == b"localhost" || numbered(word, b"localhost").is_some() {
        let own = numbered(word, b"localhost").map_or(Ok(DEFAULT_LOCALHOST_SLOTS), slots)?;
        // Several such words share the slots of one machine.
        list.localhost = list.localhost.max(Some(own));
        list.localhost_sum += u64::from(own);
    } else {
        list.hosts.push(host(word, odd)?);
    }
    list.tokens.push(word.into());
    Ok(())
}

fn host(word: &[u8], odd: &mut Vec<Kind>) -> Result<Host, Kind> {
    let mut parts = word.split(|byte| *byte == b',');
    let head = parts.next().unwrap_or_default();
    let mut host = match head.iter().position(|byte| *byte == b'@') {
        Some(at) => ssh_host(&head[..at], &head[at + 1..], odd)?,
        None => tcp_host(head, odd)?,
    };
    host.token = word.into();
    for option in parts {
        let rest = match option {
            [b'l', b'z', b'o', rest @ ..] => {
                host.lzo = true;
                rest
            }
            [b'c', b'p', b'p', rest @ ..] => {
                host.cpp = true;
                rest
            }
            [b'd', b'o', b'w', b'n', rest @ ..] => {
                host.down = true;
                rest
            }
            [b'a', b'u', b't', b'h', rest @ ..] => {
                let name = rest.strip_prefix(b"=");
                host.auth = Some(name.unwrap_or_default().into());
                if name.is_some() { b"" } else { rest }
            }
            _ => return Err(Kind::BadOption { option: clip(option) }),
        };
        if !rest.is_empty() {
            odd.push(Kind::BadOption { option: clip(option) });
        }
    }
    if host.cpp && !host.lzo { Err(Kind::CppWithoutLzo) } else { Ok(host) }
}

/// A host with nothing said of it but its name.
fn named(name: String, transport: Transport) -> Host {
    Host {
        name,
        port: DEFAULT_PORT,
        slots: DEFAULT_SLOTS,
        transport,
        lzo: false,
        cpp: false,
        down: false,
        auth: None,
        token: Bytes::default(),
    }
}

/// `HOST[:PORT][/N]`, port and slots in either order.
fn tcp_host(head: &[u8], odd: &mut Vec<Kind>) -> Result<Host, Kind> {
    let (name, mut rest) = name(head)?;
    let mut host = named(name, Transport::Tcp);
    let (mut port_given, mut slots_given) = (false, false);
    while let Some((sign, after)) = rest.split_first() {
        let end = after.iter().position(is_sign).unwrap_or(after.len());
        let value = &after[..end];
        match sign {
            b':' if !port_given => {
                match value {
                    [] => odd.push(Kind::BadPort { port: Bytes::default() }),
                    value => host.port = port(value)?,
                }
                port_given = true;
            }
            b'/' | b'=' if !slots_given => {
                set_slots(&mut host, value, odd)?;
                slots_given = true;
            }
            _ => return Err(Kind::Trailing { rest: clip(rest) }),
        }
        rest = &after[end..];
    }
    Ok(host)
}

/// `[USER]@HOST[/N][:COMMAND]`; a command may hold slashes.
fn ssh_host(user: &[u8], rest: &[u8], odd: &mut Vec<Kind>) -> Result<Host, Kind> {
    let (name, mut rest) = name(rest)?;
    // ssh would take a user that begins so for an option.
    if user.starts_with(b"-") || user.iter().any(u8::is_ascii_control) {
        return Err(Kind::BadName { name: clip(user) });
    }
    let mut number = None;
    if let [b'/' | b'=', after @ ..] = rest {
        let end = after.iter().position(|byte| *byte == b':').unwrap_or(after.len());
        number = Some(&after[..end]);
        rest = &after[end..];
    }
    let command = match rest {
        [] => None,
        [b':', command @ ..] if !command.is_empty() => Some(Bytes::from(command)),
        _ => return Err(Kind::Trailing { rest: clip(rest) }),
    };
    let user = (!user.is_empty()).then(|| user.into());
    let mut host = named(name, Transport::Ssh { user, command });
    if let Some(number) = number {
        set_slots(&mut host, number, odd)?;
    }
    Ok(host)
}

/// Takes a number of slots. distcc 3.4 never uses a host with less than none, and has no bound.
fn set_slots(host: &mut Host, value: &[u8], odd: &mut Vec<Kind>) -> Result<(), Kind> {
    let digits = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    match (slots(value), value) {
        (Ok(slots), _) => host.slots = slots,
        (Err(kind), [b'-', rest @ ..]) if digits(rest) => {
            host.down = true;
            odd.push(kind);
        }
        (Err(kind), [b'1'..=b'9', rest @ ..]) if rest.is_empty() || digits(rest) => {
            host.slots = HOST_SLOTS_MAX;
            odd.push(kind);
        }
        (Err(kind), _) => return Err(kind),
    }
    Ok(())
}

/// Takes the name or the address in brackets from the front.
fn name(head: &[u8]) -> Result<(String, &[u8]), Kind> {
    if let Some(inner) = head.strip_prefix(b"[") {
        let end = inner.iter().position(|byte| *byte == b']').ok_or(Kind::BadIpv6)?;
        let address = std::str::from_utf8(&inner[..end]).ok().filter(|text| is_ipv6(text));
        return Ok((address.ok_or(Kind::BadIpv6)?.to_owned(), &inner[end + 1..]));
    }
    if let Some(address) = bare_ipv6(head) {
        return Err(Kind::BareIpv6 { address: clip(address) });
    }
    let (name, rest) = head.split_at(head.iter().position(is_sign).unwrap_or(head.len()));
    if name.is_empty() {
        return Err(Kind::NoName);
    }
    match std::str::from_utf8(name) {
        Ok(text) if is_name(text) => Ok((text.to_owned(), rest)),
        _ => Err(Kind::BadName { name: clip(name) }),
    }
}

/// What ends a name or a number.
fn is_sign(byte: &u8) -> bool {
    matches!(byte, b':' | b'/' | b'=')
}

fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    name.len() <= NAME_MAX_BYTES && name.bytes().all(allowed) && !name.starts_with('-')
}

/// Whether this is an IPv6 address, perhaps with a zone (`fe80::1%eth0`).
fn is_ipv6(text: &str) -> bool {
    let (address, zone) = text.split_once('%').map_or((text, None), |(address, zone)| (address, Some(zone)));
    address.parse::<Ipv6Addr>().is_ok() && zone.is_none_or(|zone| !zone.is_empty() && is_name(zone))
}

/// The address at the front of a word that should have had brackets.
fn bare_ipv6(head: &[u8]) -> Option<&[u8]> {
    let end = head.iter().position(|byte| matches!(byte, b'/' | b'=')).unwrap_or(head.len());
    let address = std::str::from_utf8(&head[..end]).ok()?;
    is_ipv6(address).then_some(&head[..end])
}

fn port(text: &[u8]) -> Result<u16, Kind> {
    match number(text).and_then(|number| u16::try_from(number).ok()) {
        Some(port) if port > 0 => Ok(port),
        _ => Err(Kind::BadPort { port: clip(text) }),
    }
}

fn slots(text: &[u8]) -> Result<u32, Kind> {
    match number(text) {
        Some(slots) if (1..=HOST_SLOTS_MAX).contains(&slots) => Ok(slots),
        _ => Err(Kind::BadSlots { slots: clip(text) }),
    }
}

/// Decimal digits and nothing else: no sign, no blank.
fn number(text: &[u8]) -> Option<u32> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}
