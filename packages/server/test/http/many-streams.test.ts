import { fork } from 'node:child_process'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { newJob } from '../jobs/jobs.ts'
import { ADMIN, createService } from './service.ts'

const CLIENTS = fileURLToPath(new URL('../../../../bench/lib/event-clients.mjs', import.meta.url))
const READERS = 48
const SILENT = 12
/** Of 800 bytes, together more than the kernel's largest buffers of a connection that nobody reads (4 MB and a little). */
const HISTORY = 12_000
const AT_A_TIME = 4000

interface Told {
  gaps: number
  repeats: number
  refused: number
  reached: number
  cut: number[]
}

// npm run bench:events is the same with a thousand clients and a training.
test('many followers, a fifth of which never read: those are cut and counted, the others miss nothing', async () => {
  const service = await createService({ sseTimes: { heartbeatMs: 200, stalledMs: 1500 } })
  const clients = fork(CLIENTS)
  try {
    const job = await service.jobs.submit(newJob('a', `${service.folder}/a`))
    const append = async (count: number) => {
      const events = Array.from({ length: count }, () => ({ type: 'step' as const, data: { text: 'x'.repeat(700) } }))
      await service.store.update(job.id, null, () => ({ change: {}, events }))
      service.notifier.publish('events', job.id)
    }
    for (let i = 0; i < HISTORY; i += AT_A_TIME) await append(AT_A_TIME)

    const warnings: string[] = []
    const onWarning = ({ name }: Error) => warnings.push(name)
    process.on('warning', onWarning)
    const sockets = new Set<Socket>()
    service.app.server.on('connection', (socket) => sockets.add(socket))
    const url = await service.app.listen({ host: '127.0.0.1', port: 0 })
    const path = '/train/a/events'
    clients.send({ open: { url, key: ADMIN, path, readers: READERS, silent: SILENT, last: HISTORY + 1, stay: 1000 } })
    await once(clients, 'message')

    let held = 0
    let last = HISTORY + 1
    let told: Told
    do {
      if (last < HISTORY + 60) {
        await append(3)
        last += 3
      }
      for (const socket of sockets) held = Math.max(held, socket.writableLength)
      clients.send({ tell: true })
      told = ((await once(clients, 'message')) as [{ told: Told }])[0].told
      await new Promise((resume) => setTimeout(resume, 50))
    } while (told.cut.length < SILENT || told.reached < last)

    expect(told).toMatchObject({ gaps: 0, repeats: 0, refused: 0 })
    const metrics = (await service.call('GET', '/metrics')).body
    // A reader that had no processor for so long may be among them; it came back.
    const counted = Number(/^mlx_training_event_streams_cut_total (\d+)$/m.exec(metrics)?.[1])
    expect(counted).toBeGreaterThanOrEqual(SILENT)
    expect(held).toBeGreaterThan(0)
    expect(held).toBeLessThan(2 ** 20)
    expect(warnings).toEqual([])
    process.off('warning', onWarning)
  } finally {
    clients.kill()
    await service.close()
  }
}, 300_000)
