import { Readable } from 'node:stream'
import { expect, it } from 'vitest'
import { Output } from '../../src/engine/output.ts'

it('keeps what tells why a process ended, however many stacks are dumped after it', async () => {
  const output = new Output(null)
  const stacks = Array.from({ length: 30 }, (_, i) => [
    `Thread 0x00007f${i} (most recent call first):`,
    `  File "/usr/lib/python3.11/threading.py", line ${i} in wait`,
    '  <no Python frame>',
  ])
  const written = [
    'Traceback (most recent call last):',
    '  File "train.py", line 3, in main',
    'OMP: Error #34: System unable to allocate necessary resources for OMP thread:',
    'Fatal Python error: Aborted',
    ...stacks.flat(),
    'Extension modules: numpy._core._multiarray_umath, mlx.core (total: 15)',
  ]
  await output.drain(Readable.from([`${written.join('\n')}\n`]), true)
  expect(output.lines()).toEqual(written.slice(0, 4))
})

it('tells whole lines, however the text was cut, and the last one without a line break', async () => {
  const told: string[] = []
  const output = new Output(null, (line) => told.push(line))
  await output.drain(Readable.from(['one\ntw', 'o\r\n\n  \nthr', 'e', 'e']), false)
  expect(told).toEqual(['one', 'two', 'three'])
})
