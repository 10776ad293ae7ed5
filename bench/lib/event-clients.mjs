// Many clients of one job's event stream, in a process of its own: node event-clients.mjs, told by messages.
//   {open: {url, key, path, readers, silent, last, stay, nice}}: readers check that ids have no gap and no repeat, over
//     reconnects; an eighth of them replay the whole history, the others begin at `last`. They stay connected for `stay`
//     milliseconds to three times that. Silent ones ask for everything and never read. Answers {open: seconds} when all are
//     connected.
//   {tell: true}: answers {told: {...}} with what was seen so far. `reached`: the event that all readers have. `cut`: seconds
//     from connecting until each silent client that has been cut noticed it, by a line break that it sends every second.
//   {close: true}: answers {closed: {...}} likewise, and ends.
import { connect } from 'node:net'
import { setPriority } from 'node:os'

const REPLAYING = 8
const AT_A_TIME = 50
const PROBE = 1000 // milliseconds

const seen = { readers: 0, silent: 0, events: 0, connections: 0, gaps: 0, repeats: 0, refused: 0, cut: [] }
const positions = []
const sockets = new Set()
let closing = false
const told = () => ({ ...seen, reached: Math.min(...positions) })

process.on('message', async ({ open, tell, close }) => {
  if (open) process.send({ open: await openAll(open) })
  if (tell) process.send({ told: told() })
  if (close) {
    closing = true
    for (const socket of sockets) socket.destroy()
    process.send({ closed: told() }, () => process.exit(0))
  }
})
process.on('disconnect', () => process.exit(0))

async function openAll({ url, key, path, readers, silent, last, stay, nice = 0 }) {
  if (nice > 0) setPriority(nice)
  const start = performance.now()
  const { hostname, port } = new URL(url)
  const ask = (after) =>
    `GET ${path} HTTP/1.1\r\nHost: ${hostname}\r\nX-API-Key: ${key}\r\nLast-Event-ID: ${after}\r\n\r\n`
  const work = [
    ...Array.from({ length: silent }, () => () => beSilent({ hostname, port }, ask(0))),
    ...Array.from(
      { length: readers },
      (_, i) => () => read({ hostname, port }, ask, i % REPLAYING === 0 ? 0 : last, stay),
    ),
  ]
  for (let i = 0; i < work.length; i += AT_A_TIME)
    await Promise.all(work.slice(i, i + AT_A_TIME).map((begin) => begin()))
  return (performance.now() - start) / 1000
}

function dial({ hostname, port }, request) {
  const socket = connect(Number(port), hostname)
  sockets.add(socket)
  seen.connections++
  socket.on('error', () => {})
  socket.on('close', () => sockets.delete(socket))
  socket.on('connect', () => socket.write(request))
  return socket
}

/** Takes nothing from its socket, whose buffers in the kernel fill up. */
function beSilent(server, request) {
  const socket = dial(server, request)
  socket.pause()
  seen.silent++
  return new Promise((resolve) => {
    socket.once('connect', () => {
      const connected = performance.now()
      const probe = setInterval(() => socket.write('\r\n'), PROBE)
      socket.once('close', () => {
        clearInterval(probe)
        if (!closing) seen.cut.push((performance.now() - connected) / 1000)
      })
      resolve()
    })
  })
}

/** Resolves with the first bytes; goes on until the end. */
function read(server, ask, after, stay) {
  let last = after
  const index = seen.readers++
  positions[index] = last
  const again = () =>
    new Promise((resolve) => {
      const socket = dial(server, ask(last))
      let text = ''
      socket.setEncoding('latin1')
      let leave
      socket.once('data', (head) => {
        if (!head.startsWith('HTTP/1.1 200')) seen.refused++
        // From the first bytes on, so that a slow machine gets further, too.
        leave = setTimeout(() => socket.destroy(), stay * (1 + 2 * Math.random()))
        resolve()
      })
      socket.on('data', (chunk) => {
        text += chunk
        const whole = text.lastIndexOf('\n\n')
        if (whole < 0) return
        // JSON has no raw line breaks: nothing else looks like this.
        for (const [, id] of text.slice(0, whole).matchAll(/\nid: (\d+)\n/g)) note(Number(id))
        text = text.slice(whole + 1)
      })
      socket.on('close', () => {
        clearTimeout(leave)
        resolve()
        if (!closing) setTimeout(again, 100)
      })
    })
  const note = (id) => {
    seen.events++
    if (id <= last) seen.repeats++
    else if (id > last + 1) seen.gaps++
    last = id
    positions[index] = last
  }
  return again()
}
