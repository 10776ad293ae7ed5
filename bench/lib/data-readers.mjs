// One reader over one file; prints what it took. node data-readers.mjs READER FILE
import { closeSync, fstatSync, openSync, readFileSync, readSync } from 'node:fs'
import { check } from '../../packages/server/dist/datasets/threads/check.js'

const [reader, path] = process.argv.slice(2)
/** Node's longest string has 2^29 − 24 characters. */
const MAX_STRING = 500e6

/** Bare JSON.parse: a line at a time, or the whole array; a file too long for a string row by row as it stands in its lines. */
function parseAlone() {
  const size = fstatSync(fd).size
  if (path.endsWith('.json') && size < MAX_STRING) return JSON.parse(readFileSync(path).toString('utf8')).length
  return path.endsWith('.json')
    ? eachPiece('\n  },\n', (row) => JSON.parse(row))
    : eachPiece('\n', (line) => JSON.parse(line))
}

/** Reads in pieces of 1 MiB; `parse` gets each part that `separator` ends. */
function eachPiece(separator, parse) {
  const end = Buffer.from(separator)
  const isArray = separator.length > 1
  const buffer = Buffer.allocUnsafe(1 << 20)
  let rest = Buffer.alloc(0)
  let rows = 0
  for (let read = readSync(fd, buffer); read > 0; read = readSync(fd, buffer)) {
    const chunk = Buffer.concat([rest, buffer.subarray(0, read)])
    let start = rows === 0 && isArray ? 1 : 0
    for (let at = chunk.indexOf(end, start); at !== -1; at = chunk.indexOf(end, start)) {
      parse(chunk.toString('utf8', start, isArray ? at + 4 : at))
      start = at + end.length
      rows++
    }
    rest = Buffer.from(chunk.subarray(start))
  }
  return rows
}

async function ours(threads) {
  const limits = { maxExpandedBytes: 1e12, maxExpansionRatio: 1000 }
  const { report } = await check({ file: { fd, name: path }, asked: undefined, limits, threads })
  if (!report.valid) throw new Error(report.errors[0])
  return report.total_samples
}

const READERS = { 'json-parse': parseAlone, ours: () => ours(1), 'ours-2-threads': () => ours(2) }
const fd = openSync(path)
const before = process.cpuUsage()
const start = performance.now()
const rows = await READERS[reader]()
const seconds = (performance.now() - start) / 1000
const { user, system } = process.cpuUsage(before)
const peak = Number(/^VmHWM:\s*(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) / 1024
closeSync(fd)
console.log(JSON.stringify({ rows, seconds, cpu_seconds: (user + system) / 1e6, peak_mb: peak }))
