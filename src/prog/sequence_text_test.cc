// SPDX-License-Identifier: Apache-2.0
#include "prog/sequence_text.h"

#include <gtest/gtest.h>

namespace skep {
namespace {

TEST(SequenceText, AnElementFillsAllButTheLastByteOfTheBuffer) {
  SequenceText text;
  text.begin_element();
  EXPECT_TRUE(text.append(std::string(SequenceText::kMaxPerElement, 'x')));
  EXPECT_TRUE(text.append(""));
  EXPECT_FALSE(text.append("y"));
  EXPECT_TRUE(text.overflowed());
  EXPECT_FALSE(text.append("")) << "after too much nothing more fits";
  EXPECT_EQ(text.text().size(), SequenceText::kMaxPerElement);
}

TEST(SequenceText, EachElementHasTheWholeBuffer) {
  SequenceText text;
  for (int i = 0; i < 3; ++i) {
    text.begin_element();
    EXPECT_TRUE(text.append(std::string(SequenceText::kMaxPerElement, 'x')));
  }
  EXPECT_FALSE(text.overflowed());
  EXPECT_EQ(text.text().size(), 3 * SequenceText::kMaxPerElement);
}

TEST(SequenceText, DroppingTakesBackOneElementOnly) {
  SequenceText text;
  text.begin_element();
  text.append("one ");
  text.begin_element();
  text.append("two");
  text.append(std::string(SequenceText::kMaxPerElement, 'x'));
  ASSERT_TRUE(text.overflowed());
  text.drop_element();
  EXPECT_FALSE(text.overflowed());
  EXPECT_EQ(text.text(), "one ");
  EXPECT_TRUE(text.append("three"));
  EXPECT_EQ(text.text(), "one three");
  text.clear();
  EXPECT_EQ(text.text(), "");
  text.append("four");
  text.drop_element();
  EXPECT_EQ(text.text(), "");
}

}  // namespace
}  // namespace skep
