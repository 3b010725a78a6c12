//! A program that answers ARP requests and neighbour solicitations at a far end, for the addresses it is told.
//!
//! It runs on a thread of its own with its own packet socket, so that the answers come while a test waits for something
//! else. It stops when it is dropped.

use super::namespace::Namespace;
use super::neighbor;
use super::packet::Mac;
use super::sys::{PacketSocket, wait_readable};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

type Known = Arc<Mutex<HashMap<IpAddr, Mac>>>;

/// The running program.
pub struct Responder {
    known: Known,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Responder {
    /// Starts it on `interface` of `namespace`.
    pub fn start(namespace: &Namespace, interface: &str) -> Self {
        let known = Known::default();
        let stop = Arc::new(AtomicBool::new(false));
        let socket = namespace
            .enter(|| PacketSocket::open(interface))
            .expect("packet socket");
        let thread = std::thread::spawn({
            let (known, stop) = (known.clone(), stop.clone());
            move || serve(socket, &known, &stop)
        });
        Responder {
            known,
            stop,
            thread: Some(thread),
        }
    }

    /// Has it answer for one more address.
    pub fn add(&self, address: IpAddr, mac: Mac) {
        self.known.lock().expect("no holder panics").insert(address, mac);
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn serve(mut socket: PacketSocket, known: &Known, stop: &AtomicBool) {
    let mut frames = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        wait_readable(&[socket.fd()], Duration::from_millis(20));
        socket.receive(&mut frames).expect("capture");
        let answers: Vec<_> = {
            let known = known.lock().expect("no holder panics");
            frames.drain(..).filter_map(|frame| answer(&frame, &known)).collect()
        };
        socket.send(&answers).expect("answer");
    }
}

fn answer(frame: &[u8], known: &HashMap<IpAddr, Mac>) -> Option<Vec<u8>> {
    let asker: Mac = frame.get(6..12)?.try_into().ok()?;
    match frame.get(12..14)? {
        [0x08, 0x06] if frame.get(20..22)? == [0, 1] => {
            let asker_address = Ipv4Addr::from(<[u8; 4]>::try_from(frame.get(28..32)?).ok()?);
            let target = Ipv4Addr::from(<[u8; 4]>::try_from(frame.get(38..42)?).ok()?);
            let mac = *known.get(&target.into())?;
            Some(neighbor::arp_reply(mac, target, asker, asker_address))
        }
        [0x86, 0xdd] if frame.get(20)? == &58 && frame.get(54)? == &135 => {
            let asker_address = Ipv6Addr::from(<[u8; 16]>::try_from(frame.get(22..38)?).ok()?);
            let target = Ipv6Addr::from(<[u8; 16]>::try_from(frame.get(62..78)?).ok()?);
            let mac = *known.get(&target.into())?;
            Some(neighbor::neighbor_advertisement(mac, target, asker, asker_address))
        }
        _ => None,
    }
}
