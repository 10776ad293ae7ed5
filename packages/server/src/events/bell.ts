/** `next` is a promise of the first ring after the call, so that none is lost between looking and waiting. */
export function createBell() {
  let resolve = () => {}
  let promise = Promise.resolve()
  return {
    ring: () => resolve(),
    next() {
      promise = new Promise<void>((done) => {
        resolve = done
      })
      return promise
    },
  }
}
