import { describe, expect, it } from 'vitest'
import { explain, type ProcessEnd, ranOutOfMemory } from '../../src/engine/exit.ts'
import { memoryShare, oomKills } from '../../src/engine/memory.ts'

const END: ProcessEnd = { code: null, signal: null, fault: null, log: [], oomKilled: false, memoryShare: 0.1 }

describe('the end of an engine process', () => {
  it.each<[string, Partial<ProcessEnd>, boolean, RegExp]>([
    ['a kill that the kernel counted', { signal: 'SIGKILL', oomKilled: true }, true, /SIGKILL: the system ran out/],
    ['a kill where nobody counts', { signal: 'SIGKILL', oomKilled: null }, true, /SIGKILL: most likely the system/],
    ['a kill by a person', { signal: 'SIGKILL' }, false, /from outside by SIGKILL, though the system had not run out/],
    ['a watchdog that steps in early', { signal: 'SIGKILL', memoryShare: 0.9 }, true, /most likely/],
    ["MLX's allocator on a CPU", { signal: 'SIGSEGV' }, true, /SIGSEGV\), as MLX on a CPU does when memory runs out/],
    [
      'C++',
      { signal: 'SIGABRT', log: ['what():  std::bad_alloc'] },
      true,
      /ran out of memory: what\(\): {2}std::bad_alloc/,
    ],
    ['Python', { code: 1, log: ['MemoryError'] }, true, /exit status 1: MemoryError/],
    ['another abort', { signal: 'SIGABRT', log: ['assertion failed'] }, false, /SIGABRT\): assertion failed/],
    ['another exception', { code: 1, log: ['ValueError: x'] }, false, /exit status 1: ValueError: x/],
    ['a request to end', { signal: 'SIGTERM' }, false, /from outside by SIGTERM/],
    [
      'a kill by this server',
      { signal: 'SIGKILL', oomKilled: true, fault: { kind: 'hung', detail: '60 s' } },
      false,
      /gave no sign of life for 60 s/,
    ],
  ])('%s', (_, end, memory, words) => {
    expect(ranOutOfMemory({ ...END, ...end })).toBe(memory)
    expect(explain({ ...END, ...end })).toMatch(words)
  })

  it('is seen against what the system says', () => {
    expect(oomKills()).toSatisfy((count: number | null) => count === null || count >= 0)
    expect(memoryShare(0)).toBe(0)
    expect(memoryShare(1e9)).toBeGreaterThan(1)
  })
})
