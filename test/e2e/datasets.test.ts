import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import type { Dataset, DatasetsResponse, RowsResponse, UploadResponse } from '@mlx-training/contract'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { KEY, Server, workFolder } from './support.ts'

// A server that is killed while data sets come in: what was told to be there is there, nothing else is.
const folder = workFolder()
let server: Server
beforeAll(async () => {
  server = await Server.start(folder.path)
}, 60_000)
afterAll(async () => {
  await server.kill('SIGTERM')
  folder.remove()
})

const rows = (from: number, count: number) =>
  Array.from({ length: count }, (_, i) =>
    JSON.stringify({
      instruction: `What comes after number ${from + i}?`,
      output: `It is ${from + i + 1}. ${'x'.repeat(200)}`,
    }),
  ).join('\n')

async function upload(name: string, bytes: string): Promise<UploadResponse> {
  const form = new FormData()
  form.set('file', new Blob([bytes]), name)
  const answer = await fetch(`${server.url}/datasets`, { method: 'POST', headers: { 'X-API-Key': KEY }, body: form })
  expect(answer.status).toBe(200)
  return (await answer.json()) as UploadResponse
}

const onDisk = () => readdirSync(join(folder.path, 'home', 'datasets'))
const listed = async () => (await server.request<DatasetsResponse>('GET', '/datasets?limit=200')).body.datasets

test('killed in the middle of uploads: only what was complete is there afterwards', async () => {
  const first = await upload('first.jsonl', rows(0, 50))
  const { port } = new URL(server.url)
  const socket = connect(Number(port), '127.0.0.1')
  socket.on('error', () => {})
  await once(socket, 'connect')
  socket.write(
    `POST /datasets?name=half.jsonl HTTP/1.1\r\nHost: localhost\r\nX-API-Key: ${KEY}\r\nContent-Length: 1000000\r\n\r\n${rows(0, 500)}`,
  )
  // Others are being received, checked, indexed and published meanwhile.
  const told: string[] = [first.id]
  const many = Array.from({ length: 40 }, async (_, i) =>
    told.push((await upload(`${i}.json`, rows(1000 * i, 300))).id),
  )
  const outcomes = Promise.allSettled(many)
  await expect.poll(() => told.length, { timeout: 20_000 }).toBeGreaterThan(3)
  expect(onDisk().some((name) => name.startsWith('.new-'))).toBe(true)
  server.process.kill('SIGKILL')
  await once(server.process, 'exit')
  await outcomes
  socket.destroy()

  server = await Server.start(folder.path)
  const there = await listed()
  const ids = there.map(({ id }) => id)
  for (const id of told) expect(ids).toContain(id)
  expect(onDisk().sort()).toEqual([...ids].sort())
  for (const { id, rows: count } of there) {
    const page = await server.request<RowsResponse>('GET', `/datasets/${id}/rows?offset=${count - 1}`)
    expect(page.body.rows).toMatchObject([{ sample: count - 1, issues: [] }])
  }
  const again = await upload('first again.jsonl', rows(0, 50))
  expect(again).toMatchObject({ id: first.id, already_there: true })
}, 120_000)

test('tables are unpacked on a thread of the built server', async () => {
  const table = `instruction,output\n${Array.from({ length: 500 }, (_, i) => `Say number ${i} aloud,"It is ${i}, as you said"\n`).join('')}`
  const { id } = await upload('table.csv', table)
  const { body } = await server.request<Dataset>('GET', `/datasets/${id}`)
  expect(body).toMatchObject({ container: 'csv', rows: 500, valid: true })
  const ragged = await upload('ragged.csv', `${table}one cell\n`)
  expect(ragged.report.errors[0]).toMatch(/^Line 502: The row has 1 cell/)
}, 60_000)
