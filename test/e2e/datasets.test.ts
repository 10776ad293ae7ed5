import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import type { Dataset, DatasetsResponse, RowsResponse, UploadResponse } from '@mlx-training/contract'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
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

describe('what goes wrong on the way', () => {
  const send = async (name: string, body: string) => {
    const headers = { 'X-API-Key': KEY }
    const answer = await fetch(`${server.url}/datasets?name=${name}`, { method: 'POST', headers, body })
    return { status: answer.status, body: (await answer.json()) as UploadResponse }
  }
  const settled = async () => {
    const ids = (await listed()).map(({ id }) => id)
    await expect.poll(() => onDisk().sort(), { timeout: 10_000 }).toEqual([...ids].sort())
  }

  test('lengths that are not true: an answer or a closed connection, nothing is left', async () => {
    const body = rows(8_000_000, 100)
    const { port } = new URL(server.url)
    for (const length of [body.length + 1, body.length - 1000, 0, -5, '1e3', '99999999999999999999']) {
      const socket = connect(Number(port), '127.0.0.1')
      socket.on('error', () => {})
      await once(socket, 'connect')
      let answer = ''
      socket.on('data', (bytes) => {
        answer += bytes
      })
      socket.end(
        `POST /datasets?name=x.jsonl HTTP/1.1\r\nHost: localhost\r\nX-API-Key: ${KEY}\r\nContent-Length: ${length}\r\n\r\n${body}`,
      )
      await once(socket, 'close')
      const status = Number(/^HTTP\/1.1 (\d+)/.exec(answer)?.[1] ?? 0)
      // What is shorter than announced is never taken for whole; what is longer ends where it said that it would.
      if (length !== body.length - 1000 && length !== 0) expect([length, status]).not.toEqual([length, 200])
    }
    for (const { name, rows: count } of await listed()) if (name === 'x.jsonl') expect(count).toBeLessThan(100)
    await settled()
  }, 60_000)

  test('the same bytes at the same time, and deleted while they are split and read: each is told what it gets', async () => {
    const bytes = rows(9_000_000, 3000)
    const uploads = await Promise.all([1, 2, 3].map((i) => upload(`same ${i}.jsonl`, bytes)))
    expect(new Set(uploads.map(({ id }) => id)).size).toBe(1)
    const id = uploads[0]?.id
    const [split, page, gone] = await Promise.all([
      server.request('POST', `/datasets/${id}/split`, { validation_share: 0.1 }),
      server.request('GET', `/datasets/${id}/rows?offset=2990`),
      server.request('DELETE', `/datasets/${id}`),
    ])
    expect(gone.status).toBe(200)
    for (const { status } of [split, page]) expect([200, 404]).toContain(status)
    await settled()
  }, 60_000)

  test('a disk that is full, while a file comes in, is indexed, split or cleaned: 507, nothing is left, and it goes on', async () => {
    await server.kill('SIGTERM')
    // Each thread meets its own the first time that it gets there.
    const points = 'dataset.received@2=enospc,dataset.append=enospc'
    server = await Server.start(folder.path, { MLX_TRAINING_FAILPOINTS: points })
    const full = { status: 507, body: { status_code: 507, detail: expect.stringMatching(/^No space left/) } }
    const bytes = rows(7_000_000, 2000)
    expect(await send('full.jsonl', bytes)).toMatchObject(full)
    await settled()
    let answer = await send('full.jsonl', bytes)
    for (let tries = 0; answer.status === 507 && tries < 8; tries++) {
      expect(answer).toMatchObject(full)
      await settled()
      answer = await send('full.jsonl', bytes)
    }
    expect(answer).toMatchObject({ status: 200, body: { rows: 2000, already_there: false } })
    const { id } = answer.body
    for (const [path, body] of [
      ['split', { validation_share: 0.2 }],
      ['clean', { repairs: ['convert'], format: 'openai' }],
    ] as const) {
      let done = await server.request('POST', `/datasets/${id}/${path}`, body)
      for (let tries = 0; done.status === 507 && tries < 8; tries++) {
        await settled()
        done = await server.request('POST', `/datasets/${id}/${path}`, body)
      }
      expect(done.status, JSON.stringify(done.body)).toBe(200)
      await settled()
    }
    expect((await server.request('GET', '/health')).status).toBe(200)
  }, 120_000)
})
