import Certification

/// A bar that begins anew with each step of an adaptation.
final class StepBar {
  private var step: AdaptationRun.Step?
  private var bar: ProgressBar?
  private var first = 0

  func show(_ step: AdaptationRun.Step, done: Int, total: Int) {
    if step != self.step {
      clear()
      (self.step, bar, first) = (step, ProgressBar(total: total, what: step.rawValue), done)
    }
    bar?.show(done: done, since: first)
  }

  func clear() { bar?.clear() }
}
